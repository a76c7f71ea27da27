use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use serde::Deserialize;

use super::Positions;
use crate::config::{ConfigError, unsupported};
use crate::{Backend, portable};

/// Rotations of one pass's positions, in the half-split layout that Hugging Face checkpoints use
/// (Su et al. 2021, arXiv 2104.09864).
#[derive(Debug, Clone)]
pub struct Rope<B: Backend> {
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
    interleaved: bool,
}

impl<B: Backend> Rope<B> {
    /// Tables for `positions`, which may be a part of a pass; `seq_len` is the length of its longest sequence.
    pub fn new(
        parameters: &RopeParameters,
        head_dim: usize,
        positions: &Positions,
        seq_len: usize,
        device: &B::Device,
    ) -> Self {
        let (inverse, scale) = parameters.inverse_frequencies(parameters.rotary_dim.unwrap_or(head_dim), seq_len);
        let table = |f: fn(f32) -> f32| {
            let angles = positions.as_slice().iter().flat_map(|&p| inverse.iter().map(move |w| p.max(0) as f32 * w));
            let values: Vec<f32> = angles.map(|angle| f(angle) * scale).collect();
            let shape = [positions.batch(), 1, positions.columns(), inverse.len()];
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        Self { cos: table(f32::cos), sin: table(f32::sin), interleaved: parameters.interleaved }
    }

    /// Cosines `[batch, 1, seq, pairs]`, f32.
    pub fn cos(&self) -> Tensor<B, 4> {
        self.cos.clone()
    }

    /// Sines `[batch, 1, seq, pairs]`, f32.
    pub fn sin(&self) -> Tensor<B, 4> {
        self.sin.clone()
    }

    /// Whether all of a head of this width turns, its halves together.
    pub fn is_plain(&self, head_dim: usize) -> bool {
        !self.interleaved && 2 * self.cos.dims()[3] == head_dim
    }

    /// Heads `[batch, heads, seq, head_dim]`, their first numbers turned, twice as many as there are pairs.
    ///
    /// Where neighbours turn together, they part: queries and keys alike, so that no score notices.
    pub fn rotate(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let ([batch, heads, seq, head_dim], turning) = (x.dims(), 2 * self.cos.dims()[3]);
        if turning < head_dim {
            let turned = self.rotate(x.clone().narrow(3, 0, turning));
            return Tensor::cat(vec![turned, x.narrow(3, turning, head_dim - turning)], 3);
        }
        let x = match self.interleaved {
            true => {
                // [.., pairs, 2] → [.., 2, pairs]
                let pairs = x.reshape([batch * heads, seq, turning / 2, 2]).swap_dims(2, 3);
                pairs.reshape([batch, heads, seq, head_dim])
            }
            false => x,
        };
        portable::rotate(x, self.cos(), self.sin())
    }
}

/// How RoPE's frequencies are stretched beyond the length that a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeType {
    /// Not at all.
    #[default]
    Default,
    /// All by `factor`.
    Linear,
    /// By raising the base with the sequence's length.
    Dynamic,
    /// Low ones by `factor`, high ones not at all (Llama 3.1).
    Llama3,
    /// The same with other borders, and scores sharpened (Peng et al. 2023, arXiv 2309.00071).
    Yarn,
}

/// `rope_parameters`, or `rope_scaling` with `rope_theta`, of a `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "the names are those of config.json")]
pub struct RopeParameters {
    rope_type: Option<RopeType>,
    /// The older spelling of `rope_type`.
    #[serde(rename = "type")]
    kind: Option<RopeType>,
    pub rope_theta: Option<f64>,
    pub factor: Option<f64>,
    pub original_max_position_embeddings: Option<usize>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    pub(crate) partial_rotary_factor: Option<f64>,
    /// Parameters for each kind of layer, as other families have them.
    full_attention: Option<serde_json::Value>,
    sliding_attention: Option<serde_json::Value>,
    /// The config's own, from beside these parameters.
    #[serde(skip)]
    pub max_position_embeddings: usize,
    /// How many numbers of a head turn, if not all.
    #[serde(skip)]
    pub rotary_dim: Option<usize>,
    /// Whether neighbours turn together, and not halves.
    #[serde(skip)]
    pub interleaved: bool,
}

impl RopeParameters {
    /// Whether the config wrote `{}`, which means nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The kind of stretching.
    pub fn rope_type(&self) -> RopeType {
        self.rope_type.or(self.kind).unwrap_or_default()
    }

    /// The longest sequence that these parameters are made for.
    pub fn max_positions(&self) -> usize {
        let stretched = |length: usize| (length as f64 * self.factor()) as usize;
        let positions = match self.rope_type() {
            RopeType::Default | RopeType::Llama3 => self.max_position_embeddings,
            RopeType::Linear | RopeType::Dynamic => {
                stretched(self.max_position_embeddings).max(self.max_position_embeddings)
            }
            RopeType::Yarn => self.max_position_embeddings.max(stretched(self.original())),
        };
        positions.min(i32::MAX as usize)
    }

    /// Refuses parameters that lack what their type needs.
    pub fn check(&self) -> Result<(), ConfigError> {
        let missing = |field| Err(unsupported(field, "missing", format!("a number, for {:?}", self.rope_type())));
        let needs_factor = matches!(self.rope_type(), RopeType::Linear | RopeType::Dynamic | RopeType::Llama3);
        if needs_factor && self.factor.is_none() {
            return missing("rope_scaling.factor");
        }
        if self.rope_type() == RopeType::Llama3 {
            match (self.low_freq_factor, self.high_freq_factor) {
                (None, _) => return missing("rope_scaling.low_freq_factor"),
                (_, None) => return missing("rope_scaling.high_freq_factor"),
                (Some(low), Some(high)) if high <= low => {
                    let expected = format!("more than low_freq_factor = {low}");
                    return Err(unsupported("rope_scaling.high_freq_factor", high, expected));
                }
                _ => {}
            }
        }
        if self.full_attention.is_some() || self.sliding_attention.is_some() {
            return Err(unsupported("rope_parameters", "given for each kind of layer", "the same for all layers"));
        }
        // Without stretching, transformers reads it for other families only.
        let read = self.rope_type() != RopeType::Default && self.rotary_dim.is_none();
        let partial = self.partial_rotary_factor.filter(|_| read);
        if let Some(factor) = partial.filter(|factor| *factor != 1.0) {
            return Err(unsupported("partial_rotary_factor", factor, "1"));
        }
        if let Some(dim) = self.rotary_dim.filter(|dim| *dim == 0 || dim % 2 != 0) {
            return Err(unsupported("partial_rotary_factor", format!("for {dim} numbers of a head"), "an even number"));
        }
        if self.original_max_position_embeddings == Some(0) {
            return Err(unsupported("original_max_position_embeddings", 0, "a positive number"));
        }
        let positive = [("rope_theta", self.theta()), ("rope_scaling.factor", self.factor())];
        match positive.into_iter().find(|(_, value)| !value.is_finite() || *value <= 0.0) {
            Some((field, value)) => Err(unsupported(field, value, "a positive number")),
            None => Ok(()),
        }
    }

    /// Radians a position for each pair of numbers, and what cosines and sines are multiplied by.
    ///
    /// Source: `transformers/modeling_rope_utils.py`.
    pub fn inverse_frequencies(&self, head_dim: usize, seq_len: usize) -> (Vec<f32>, f32) {
        let default = |theta: f64| inverse_frequencies(head_dim, theta);
        let factor = self.factor() as f32;
        match self.rope_type() {
            RopeType::Default => (default(self.theta()), 1.0),
            RopeType::Linear => (default(self.theta()).iter().map(|w| w / factor).collect(), 1.0),
            RopeType::Dynamic => (default(self.dynamic_theta(head_dim, seq_len)), 1.0),
            RopeType::Llama3 => (self.llama3(default(self.theta())), 1.0),
            RopeType::Yarn => (self.yarn(default(self.theta())), self.yarn_scale() as f32),
        }
    }

    /// The same for heads of which a part turns: as these parameters say, else the config, else by default.
    pub(crate) fn partial(self, head_dim: usize, config: Option<f64>, default: f64) -> Self {
        let part = self.partial_rotary_factor.or(config).unwrap_or(default).clamp(0.0, 1.0);
        Self { rotary_dim: Some((head_dim as f64 * part) as usize), ..self }
    }

    /// What latent attention multiplies scores by beside the width of its heads.
    pub fn score_scale(&self) -> f64 {
        match self.mscale_all_dim.filter(|_| self.rope_type() != RopeType::Default) {
            Some(mscale) if mscale != 0.0 && self.factor() > 1.0 => (0.1 * mscale * self.factor().ln() + 1.0).powi(2),
            _ => 1.0,
        }
    }

    fn theta(&self) -> f64 {
        self.rope_theta.unwrap_or(10_000.0)
    }

    fn original(&self) -> usize {
        self.original_max_position_embeddings.unwrap_or(self.max_position_embeddings)
    }

    fn factor(&self) -> f64 {
        match (self.factor, self.rope_type()) {
            (Some(factor), _) => factor,
            (None, RopeType::Yarn) => self.max_position_embeddings as f64 / self.original() as f64,
            (None, _) => 1.0,
        }
    }

    /// The base for a sequence of `seq_len`: beyond the original length it grows, so that the longest wave fits.
    fn dynamic_theta(&self, head_dim: usize, seq_len: usize) -> f64 {
        let (factor, max, dim) = (self.factor(), self.max_position_embeddings as f64, head_dim as f64);
        let seq_len = (seq_len as f64).max(max);
        self.theta() * (factor * seq_len / max - (factor - 1.0)).powf(dim / (dim - 2.0))
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
}

/// `theta^(-2i / head_dim)`, in f32 as the reference computes it.
fn inverse_frequencies(head_dim: usize, theta: f64) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2).map(|i| 1.0 / (theta as f32).powf(exponent(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(config: &str, max: usize, head_dim: usize, seq_len: usize) -> (Vec<f32>, f32) {
        let mut rope: RopeParameters = serde_json::from_str(config).unwrap();
        rope.max_position_embeddings = max;
        rope.check().unwrap();
        rope.inverse_frequencies(head_dim, seq_len)
    }

    #[test]
    fn a_missing_factor_is_named() {
        for kind in ["linear", "dynamic", "llama3"] {
            let rope: RopeParameters = serde_json::from_str(&format!(r#"{{"rope_type":"{kind}"}}"#)).unwrap();
            assert!(rope.check().unwrap_err().to_string().starts_with("`rope_scaling.factor` is missing"));
        }
    }

    #[test]
    fn an_unknown_type_is_refused() {
        let error = serde_json::from_str::<RopeParameters>(r#"{"rope_type":"su"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `su`, expected one of `default`, `linear`"), "{error}");
    }

    /// Below the original length the dynamic base is the plain one, beyond it grows with every position.
    #[test]
    fn the_dynamic_base_grows_beyond_the_original_length() {
        let dynamic = |seq_len| first(r#"{"rope_type":"dynamic","factor":2.0}"#, 24, 16, seq_len).0[1];
        assert_eq!(dynamic(10), dynamic(24));
        assert!(dynamic(24) > dynamic(25) && dynamic(25) > dynamic(26));
    }

    #[test]
    fn yarn_sharpens_by_the_published_formula() {
        let (_, scale) = first(r#"{"type":"yarn","factor":4.0,"original_max_position_embeddings":32}"#, 128, 16, 1);
        assert!((scale - 1.138_629_4).abs() < 1e-6);
    }
}
