//! The checkpoint's own defaults: `generation_config.json`, and `config.json` where that is silent.

use std::path::Path;

use serde::Deserialize;

use crate::error::{AtPath, Error, Result};
use crate::generate::GenerateOptions;
use crate::sampler::Sampling;

/// How the makers of a model want text to be generated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "Fields")]
pub(crate) struct GenerationConfig {
    /// Tokens that end a sequence.
    pub(crate) eos_token_id: Vec<u32>,
    max_new_tokens: Option<usize>,
    max_length: Option<usize>,
    sampling: Sampling,
    /// What to sample with when the caller asks for sampling and `do_sample` is not set.
    temperature: Option<f32>,
}

#[derive(Deserialize)]
struct Fields {
    eos_token_id: Option<OneOrMany>,
    max_new_tokens: Option<usize>,
    max_length: Option<usize>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl From<Fields> for GenerationConfig {
    fn from(fields: Fields) -> Self {
        let sampling = Sampling { repetition_penalty: fields.repetition_penalty.unwrap_or(1.0), ..Sampling::default() };
        let sampling = match fields.do_sample {
            Some(true) => Sampling {
                temperature: fields.temperature.unwrap_or(1.0),
                top_k: fields.top_k.unwrap_or(0),
                top_p: fields.top_p.unwrap_or(1.0),
                min_p: fields.min_p.unwrap_or(0.0),
                ..sampling
            },
            _ => sampling,
        };
        Self {
            eos_token_id: match fields.eos_token_id {
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
                None => Vec::new(),
            },
            max_new_tokens: fields.max_new_tokens,
            max_length: fields.max_length,
            sampling,
            temperature: fields.temperature,
        }
    }
}

impl GenerationConfig {
    /// Reads `generation_config.json` in `dir`; end-of-sequence tokens may stand in `config` instead.
    pub(crate) fn from_dir(dir: &Path, config: &serde_json::Value) -> Result<Self> {
        let path = dir.join("generation_config.json");
        let mut this = match path.exists() {
            true => {
                let text = std::fs::read_to_string(&path).at(&path)?;
                serde_json::from_str(&text).map_err(|error| Error::Json { path, reason: error.to_string() })?
            }
            false => Self::default(),
        };
        if this.eos_token_id.is_empty() {
            let nested = config.get("text_config").and_then(|text| text.get("eos_token_id"));
            let eos = config.get("eos_token_id").or(nested).filter(|eos| !eos.is_null());
            let eos = eos.and_then(|eos| serde_json::from_value(eos.clone()).ok());
            this.eos_token_id = match eos {
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
                None => Vec::new(),
            };
        }
        Ok(this)
    }

    /// The caller's options over these defaults.
    pub(crate) fn sampling(&self, options: &GenerateOptions) -> Sampling {
        let mut defaults = self.sampling;
        if defaults.temperature == 0.0 && options.samples() {
            defaults.temperature = self.temperature.unwrap_or(1.0);
        }
        options.over(defaults)
    }

    /// How many tokens may follow a prompt: what the caller asks for, or the defaults as far as the model reaches.
    pub(crate) fn max_tokens(&self, options: &GenerateOptions, prompt: usize, max_positions: usize) -> Result<usize> {
        let room = max_positions.saturating_sub(prompt);
        if let Some(max_tokens) = options.max_tokens {
            return match max_tokens <= room {
                true => Ok(max_tokens),
                false => {
                    let requested = prompt.saturating_add(max_tokens);
                    Err(Error::TooLong { requested, prompt, max_tokens, max_positions })
                }
            };
        }
        if room == 0 {
            return Err(Error::TooLong { requested: prompt + 1, prompt, max_tokens: 1, max_positions });
        }
        let from_length = self.max_length.map(|length| length.saturating_sub(prompt)).filter(|rest| *rest > 0);
        Ok(self.max_new_tokens.or(from_length).unwrap_or(room).min(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> GenerationConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn one_eos_id_or_several() {
        assert_eq!(config(r#"{"eos_token_id": 2}"#).eos_token_id, [2]);
        assert_eq!(config(r#"{"eos_token_id": [2, 5]}"#).eos_token_id, [2, 5]);
        assert_eq!(config(r#"{"eos_token_id": null}"#).eos_token_id, [0u32; 0]);
    }

    #[test]
    fn without_do_sample_the_likeliest_token_is_taken() {
        let quiet = config(r#"{"temperature": 0.6, "top_p": 0.9}"#);
        assert_eq!(quiet.sampling(&GenerateOptions::default()), Sampling::default());
        let asked = quiet.sampling(&GenerateOptions { top_k: Some(5), ..Default::default() });
        assert_eq!((asked.temperature, asked.top_k), (0.6, 5));
        let sampled = config(r#"{"do_sample": true, "top_p": 0.9}"#).sampling(&GenerateOptions::default());
        assert_eq!((sampled.temperature, sampled.top_p), (1.0, 0.9));
        let greedy = GenerateOptions { temperature: Some(0.0), ..Default::default() };
        assert_eq!(config(r#"{"do_sample": true}"#).sampling(&greedy).temperature, 0.0);
    }

    #[test]
    fn asking_beyond_the_model_is_an_error_and_defaults_are_cut() {
        let with = |max_tokens| GenerateOptions { max_tokens, ..Default::default() };
        let config = config(r#"{"max_new_tokens": 100}"#);
        assert_eq!(config.max_tokens(&with(None), 450, 512).unwrap(), 62);
        assert_eq!(config.max_tokens(&with(Some(62)), 450, 512).unwrap(), 62);
        assert!(config.max_tokens(&with(Some(63)), 450, 512).is_err());
        assert!(config.max_tokens(&with(None), 512, 512).is_err());
    }
}
