use serde::Deserialize;

use crate::config::{ConfigError, unsupported};
use crate::layers::QueryGrowth;

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
    /// Each by a factor of its own (Phi-3; Ding et al. 2024, arXiv 2402.13753).
    #[serde(alias = "su")]
    LongRope,
    /// The first pairs of a whole head alone (Gemma 4).
    Proportional,
    /// By raising the base in steps with the length of each sequence's prompt (Qwen 1).
    #[serde(skip)]
    Prompt,
    /// Nothing turns.
    #[serde(skip)]
    None,
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
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) attention_factor: Option<f64>,
    pub(super) beta_fast: Option<f64>,
    pub(super) beta_slow: Option<f64>,
    pub(super) mscale: Option<f64>,
    pub(super) mscale_all_dim: Option<f64>,
    pub(super) truncate: Option<bool>,
    pub(crate) short_mscale: Option<f64>,
    pub(crate) long_mscale: Option<f64>,
    pub(super) short_factor: Option<Vec<f64>>,
    pub(super) long_factor: Option<Vec<f64>>,
    alpha: Option<f64>,
    llama_4_scaling_beta: Option<f64>,
    pub(crate) partial_rotary_factor: Option<f64>,
    /// Parameters for each kind of layer, as other families have them.
    full_attention: Option<Box<RopeParameters>>,
    sliding_attention: Option<Box<RopeParameters>>,
    /// The config's own, from beside these parameters.
    #[serde(skip)]
    pub max_position_embeddings: usize,
    /// How many numbers of a head turn, if not all.
    #[serde(skip)]
    pub rotary_dim: Option<usize>,
    /// Whether neighbours turn together, and not the halves of a head.
    #[serde(skip)]
    pub interleaved: bool,
}

impl RopeParameters {
    /// Whether the config wrote `{}`, which means nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
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

    /// The same that take every sequence for a short one, and scale by `short_mscale`.
    pub(crate) fn short(self) -> Self {
        let attention_factor = self.short_mscale.or(self.attention_factor);
        Self { long_factor: self.short_factor.clone(), attention_factor, ..self }
    }

    /// Parameters by which a part of all pairs turns.
    pub(crate) fn proportional(part: f64) -> Self {
        Self { rope_type: Some(RopeType::Proportional), partial_rotary_factor: Some(part), ..Self::default() }
    }

    /// The same for heads of another width than the config's.
    pub(crate) fn of_width(self, head_dim: usize) -> Self {
        Self { rotary_dim: Some(head_dim), ..self }
    }

    /// Parameters by which nothing turns.
    pub fn none(&self) -> Self {
        Self { rope_type: Some(RopeType::None), kind: None, ..self.clone() }
    }

    /// The same with a base where none is given.
    pub(crate) fn with_theta(mut self, theta: f64) -> Self {
        self.rope_theta.get_or_insert(theta);
        self
    }

    /// The same with a base that `alpha` has stretched once and for all, if there is one: what Hunyuan calls dynamic.
    pub(crate) fn stretched_by_alpha(self, head_dim: usize) -> Self {
        let dim = head_dim as f64;
        match self.alpha.filter(|alpha| *alpha != 0.0 && self.rope_type() == RopeType::Dynamic) {
            Some(alpha) => Self {
                rope_theta: Some(self.theta() * alpha.powf(dim / (dim - 2.0))),
                rope_type: Some(RopeType::Default),
                ..self
            },
            None => self,
        }
    }

    /// How queries grow with their position, if they do.
    pub(crate) fn query_growth(&self) -> Option<QueryGrowth> {
        self.llama_4_scaling_beta.map(|beta| QueryGrowth::Steps { beta, every: self.original() })
    }

    /// The same whose base grows in steps with the length of a prompt beyond `original`.
    pub(crate) fn by_prompt(self, original: usize) -> Self {
        let (rope_type, original) = (Some(RopeType::Prompt), Some(original));
        Self { rope_type, original_max_position_embeddings: original, ..self }
    }

    /// Whether the length that counts is that of each sequence's prompt, and not that of the longest sequence.
    pub fn follows_prompts(&self) -> bool {
        self.rope_type() == RopeType::Prompt
    }

    /// Takes out the parameters of `full_attention` and `sliding_attention`, where they are given apart.
    pub(crate) fn take_apart(&mut self) -> [Option<Self>; 2] {
        [self.full_attention.take(), self.sliding_attention.take()].map(|kind| kind.map(|kind| *kind))
    }

    /// The kind of stretching.
    pub fn rope_type(&self) -> RopeType {
        self.rope_type.or(self.kind).unwrap_or_default()
    }

    /// The longest sequence that these parameters are made for.
    pub fn max_positions(&self) -> usize {
        let stretched = |length: usize| (length as f64 * self.factor()) as usize;
        let positions = match self.rope_type() {
            RopeType::Linear | RopeType::Dynamic => {
                stretched(self.max_position_embeddings).max(self.max_position_embeddings)
            }
            RopeType::Yarn => self.max_position_embeddings.max(stretched(self.original())),
            _ => self.max_position_embeddings,
        };
        positions.min(i32::MAX as usize)
    }

    /// The length up to which rotations are the same whatever the longest sequence is, if there is an end to that.
    pub fn fixed_up_to(&self) -> Option<usize> {
        match self.rope_type() {
            RopeType::Dynamic => Some(self.max_position_embeddings),
            RopeType::LongRope => Some(self.original()),
            _ => None,
        }
    }

    /// Refuses parameters that lack what their type needs.
    pub fn check(&self) -> Result<(), ConfigError> {
        let kind = format!("{:?}", self.rope_type()).to_lowercase();
        let missing = |field| Err(unsupported(field, "missing", format!("a number, for {kind}")));
        let needs_factor = matches!(self.rope_type(), RopeType::Linear | RopeType::Dynamic | RopeType::Llama3);
        // Where a yarn's config names the length that it was made for, the factor follows from it.
        let implied = self.rope_type() == RopeType::Yarn && self.original_max_position_embeddings.is_some();
        let needs_factor = needs_factor || self.rope_type() == RopeType::Yarn && !implied;
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
        self.check_rotary_dim()?;
        if self.original_max_position_embeddings == Some(0) {
            return Err(unsupported("original_max_position_embeddings", 0, "a positive number"));
        }
        let positive = [("rope_theta", self.theta()), ("rope_scaling.factor", self.factor())];
        match positive.into_iter().find(|(_, value)| !value.is_finite() || *value <= 0.0) {
            Some((field, value)) => Err(unsupported(field, value, "a positive number")),
            None => Ok(()),
        }
    }

    /// Refuses numbers that do not pair up, and long ropes that lack a factor for a pair.
    fn check_rotary_dim(&self) -> Result<(), ConfigError> {
        if let Some(dim) = self.rotary_dim.filter(|dim| *dim == 0 || dim % 2 != 0) {
            return Err(unsupported("partial_rotary_factor", format!("for {dim} numbers of a head"), "an even number"));
        }
        if self.rope_type() != RopeType::LongRope {
            return Ok(());
        }
        let pairs = self.rotary_dim.unwrap_or(0) / 2;
        for (field, factors) in
            [("rope_scaling.short_factor", &self.short_factor), ("rope_scaling.long_factor", &self.long_factor)]
        {
            let expected = format!("{pairs} positive numbers, one for each pair of a head");
            let fits = |factors: &Vec<f64>| factors.len() == pairs && factors.iter().all(|x| x.is_finite() && *x > 0.0);
            match factors {
                None => return Err(unsupported(field, "missing", expected)),
                Some(factors) if !fits(factors) => return Err(unsupported(field, format!("{factors:?}"), expected)),
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn theta(&self) -> f64 {
        self.rope_theta.unwrap_or(10_000.0)
    }

    pub(super) fn original(&self) -> usize {
        self.original_max_position_embeddings.unwrap_or(self.max_position_embeddings)
    }

    pub(super) fn factor(&self) -> f64 {
        match (self.factor, self.rope_type()) {
            (None, RopeType::LongRope | RopeType::Yarn) => self.max_position_embeddings as f64 / self.original() as f64,
            (Some(factor), _) => factor,
            (None, _) => 1.0,
        }
    }
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
        for kind in ["linear", "dynamic", "llama3", "yarn"] {
            let rope: RopeParameters = serde_json::from_str(&format!(r#"{{"rope_type":"{kind}"}}"#)).unwrap();
            assert!(rope.check().unwrap_err().to_string().starts_with("`rope_scaling.factor` is missing"));
        }
    }

    #[test]
    fn an_unknown_type_is_refused() {
        let error = serde_json::from_str::<RopeParameters>(r#"{"rope_type":"spiral"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `spiral`, expected one of `default`, `linear`"), "{error}");
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
