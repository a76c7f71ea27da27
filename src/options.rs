use crate::sampler::Sampling;

/// What to generate; a field that is `None` is taken from the checkpoint's `generation_config.json`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "Sampling says what these mean")]
pub struct GenerateOptions {
    /// Tokens to generate at most; where the checkpoint does not say either, 1024, or as many as the model has
    /// positions for.
    pub max_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    /// What is added to the logits of tokens before a token is chosen.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes sampling repeatable; the sequences of a batch all start from it.
    pub seed: Option<u64>,
    /// Texts that end the reply and are not part of it.
    pub stop: Vec<String>,
    /// Goes on past end-of-sequence tokens.
    pub ignore_eos: bool,
    /// Tells how likely each token was, and so many of the likeliest beside it.
    pub logprobs: Option<usize>,
}

impl GenerateOptions {
    /// Whether any option asks for sampling.
    pub(crate) fn samples(&self) -> bool {
        self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some()
    }

    /// These options over `defaults`.
    pub(crate) fn over(&self, defaults: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
        }
    }
}
