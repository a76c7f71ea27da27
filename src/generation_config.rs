//! The checkpoint's own defaults: `generation_config.json`, and `config.json` where that is silent.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{AtPath, Error, Result};
use crate::options::GenerateOptions;
use crate::sampler::Sampling;

/// Tokens of a reply to which nobody set an end.
const MAX_TOKENS: usize = 1024;

/// How the makers of a model want text to be generated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct GenerationConfig {
    /// Tokens that end a sequence.
    #[serde(default)]
    pub(crate) eos_token_id: Ids,
    max_new_tokens: Option<usize>,
    max_length: Option<usize>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// One id, several, or none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = || D::Error::custom("expected a token id or a list of token ids in eos_token_id");
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(expected);
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::default()),
            Value::Array(ids) => ids.iter().map(id).collect::<Result<_, _>>().map(Self),
            one => Ok(Self(vec![id(&one)?])),
        }
    }
}

/// What `config.json` may say in its place.
#[derive(Deserialize)]
struct Fallback {
    #[serde(default)]
    eos_token_id: Ids,
    text_config: Option<Box<Fallback>>,
}

impl GenerationConfig {
    /// Reads `generation_config.json` in `dir`; end-of-sequence tokens may stand in `config` instead.
    pub(crate) fn from_dir(dir: &Path, config: &Value) -> Result<Self> {
        let wrong = |path: &Path, error: serde_json::Error| Error::Unsupported {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let path = dir.join("generation_config.json");
        let mut this: Self = match path.exists() {
            true => {
                let text = crate::io::read_text(&path).at(&path)?;
                serde_json::from_str(&text).map_err(|error| wrong(&path, error))?
            }
            false => Self::default(),
        };
        let path = dir.join("config.json");
        let config: Fallback = serde_json::from_value(config.clone()).map_err(|error| wrong(&path, error))?;
        if this.eos_token_id.0.is_empty() {
            let nested = config.text_config.map(|text| text.eos_token_id).unwrap_or_default();
            this.eos_token_id = if config.eos_token_id.0.is_empty() { nested } else { config.eos_token_id };
        }
        Ok(this)
    }

    /// The caller's options over these defaults; as in transformers, sampling is among the 50 likeliest tokens unless
    /// somebody says otherwise.
    pub(crate) fn sampling(&self, options: &GenerateOptions) -> Sampling {
        let greedy = Sampling { repetition_penalty: self.repetition_penalty.unwrap_or(1.0), ..Sampling::default() };
        let samples = self.do_sample == Some(true) || options.samples();
        options.over(match samples {
            true => Sampling {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(50),
                top_p: self.top_p.unwrap_or(1.0),
                min_p: self.min_p.unwrap_or(0.0),
                ..greedy
            },
            false => greedy,
        })
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
        Ok(self.max_new_tokens.or(from_length).unwrap_or(MAX_TOKENS).min(room))
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
        assert_eq!(config(r#"{"eos_token_id": 2}"#).eos_token_id.0, [2]);
        assert_eq!(config(r#"{"eos_token_id": [2, 5]}"#).eos_token_id.0, [2, 5]);
        assert_eq!(config(r#"{"eos_token_id": null}"#).eos_token_id.0, [0u32; 0]);
        let wrong = serde_json::from_str::<GenerationConfig>(r#"{"eos_token_id": [2, "end"]}"#).unwrap_err();
        assert!(wrong.to_string().starts_with("expected a token id or a list of token ids"), "{wrong}");
    }

    #[test]
    fn without_do_sample_the_likeliest_token_is_taken() {
        let quiet = config(r#"{"temperature": 0.6, "top_p": 0.9}"#);
        assert_eq!(quiet.sampling(&GenerateOptions::default()), Sampling::default());
        let asked = quiet.sampling(&GenerateOptions { top_k: Some(5), ..Default::default() });
        assert_eq!((asked.temperature, asked.top_k, asked.top_p), (0.6, 5, 0.9));
        let sampled = config(r#"{"do_sample": true, "top_p": 0.9}"#).sampling(&GenerateOptions::default());
        assert_eq!((sampled.temperature, sampled.top_k, sampled.top_p), (1.0, 50, 0.9));
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
