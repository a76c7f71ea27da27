use super::{RopeParameters, RopeType};

impl RopeParameters {
    /// Radians a position for each pair of `head_dim` numbers, and what cosines and sines are multiplied by.
    ///
    /// Source: `transformers/modeling_rope_utils.py`.
    pub fn inverse_frequencies(&self, head_dim: usize, seq_len: usize) -> (Vec<f32>, f32) {
        let default = |theta: f64| inverse_frequencies(head_dim, theta);
        let factor = self.factor() as f32;
        match self.rope_type() {
            RopeType::Default => (default(self.theta()), 1.0),
            RopeType::Linear => (default(self.theta()).iter().map(|w| w / factor).collect(), 1.0),
            RopeType::Dynamic => (default(self.dynamic_theta(head_dim, seq_len)), 1.0),
            RopeType::Prompt => (default(self.prompt_theta(head_dim, seq_len)), 1.0),
            RopeType::Llama3 => (self.llama3(default(self.theta())), 1.0),
            RopeType::Yarn => (self.yarn(default(self.theta())), self.yarn_scale() as f32),
            RopeType::LongRope => (self.long(default(self.theta()), seq_len), self.long_scale() as f32),
            RopeType::Proportional => {
                let turning = (self.partial_rotary_factor.unwrap_or(1.0) * head_dim as f64 / 2.0) as usize;
                let turns = |(i, w): (usize, f32)| if i < turning { w / factor } else { 0.0 };
                (default(self.theta()).into_iter().enumerate().map(turns).collect(), 1.0)
            }
            RopeType::None => (vec![0.0; head_dim / 2], 1.0),
        }
    }

    /// The base for a sequence of `seq_len`: beyond the original length it grows, so that the longest wave fits.
    fn dynamic_theta(&self, head_dim: usize, seq_len: usize) -> f64 {
        let (factor, max, dim) = (self.factor(), self.max_position_embeddings as f64, head_dim as f64);
        let seq_len = (seq_len as f64).max(max);
        self.theta() * (factor * seq_len / max - (factor - 1.0)).powf(dim / (dim - 2.0))
    }

    /// The base for a prompt of `seq_len`: beyond the original length it grows with each doubling.
    fn prompt_theta(&self, head_dim: usize, seq_len: usize) -> f64 {
        let (doublings, dim) = ((seq_len as f64 / self.original() as f64).log2() + 1.0, head_dim as f64);
        let alpha = (doublings.ceil().exp2() - 1.0).max(1.0);
        self.theta() * alpha.powf(dim / (dim - 2.0))
    }

    fn llama3(&self, inverse: Vec<f32>) -> Vec<f32> {
        let factor = self.factor() as f32;
        let original = self.original() as f32;
        let (low, high) = (self.low_freq_factor.unwrap_or(1.0) as f32, self.high_freq_factor.unwrap_or(4.0) as f32);
        let stretch = |w: f32| {
            let wavelength = 2.0 * std::f32::consts::PI / w;
            if wavelength < original / high {
                w
            } else if wavelength > original / low {
                w / factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * w / factor + smooth * w
            }
        };
        inverse.into_iter().map(stretch).collect()
    }

    fn yarn(&self, inverse: Vec<f32>) -> Vec<f32> {
        let (half, factor) = (inverse.len(), self.factor() as f32);
        let dim = 2.0 * half as f64;
        // The pair that turns `rotations` times over the original length.
        let pair = |rotations: f64| {
            dim * (self.original() as f64 / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.theta().ln())
        };
        let given = |beta: Option<f64>, default| beta.filter(|beta| *beta != 0.0).unwrap_or(default);
        let (mut low, mut high) = (pair(given(self.beta_fast, 32.0)), pair(given(self.beta_slow, 1.0)));
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let ramp = |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
        let stretched = |(i, w): (usize, f32)| w / factor * ramp(i) + w * (1.0 - ramp(i));
        inverse.into_iter().enumerate().map(stretched).collect()
    }

    fn yarn_scale(&self) -> f64 {
        let factor = self.factor();
        let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        self.attention_factor.unwrap_or_else(|| match (self.mscale, self.mscale_all_dim) {
            (Some(mscale), Some(all_dim)) if mscale != 0.0 && all_dim != 0.0 => scale(mscale) / scale(all_dim),
            _ => scale(1.0),
        })
    }

    /// Every pair divided by a factor of its own, one for short sequences and one for long ones.
    fn long(&self, inverse: Vec<f32>, seq_len: usize) -> Vec<f32> {
        let factors = if seq_len > self.original() { &self.long_factor } else { &self.short_factor };
        let factors = factors.as_deref().unwrap_or_default();
        inverse.into_iter().zip(factors).map(|(w, factor)| w / *factor as f32).collect()
    }

    fn long_scale(&self) -> f64 {
        let (factor, original) = (self.factor(), self.original() as f64);
        let scale = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        self.attention_factor.unwrap_or(scale)
    }
}

/// `theta^(-2i / head_dim)`, in f32 as the reference computes it.
fn inverse_frequencies(head_dim: usize, theta: f64) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2).map(|i| 1.0 / (theta as f32).powf(exponent(i))).collect()
}
