//! What requests may say.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::failure::Failure;
use crate::options::GenerateOptions;

/// The fields that both kinds of requests have.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Fields {
    pub(super) model: Option<String>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Stop>,
    ignore_eos: Option<bool>,
    n: Option<usize>,
    pub(super) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    pub(super) response_format: Option<ResponseFormat>,
    /// Fields that would change the reply and are not known here.
    logit_bias: Option<Map<String, Value>>,
    best_of: Option<usize>,
    echo: Option<bool>,
    suffix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// What a reply has to be.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchema },
}

#[derive(Debug, Deserialize)]
pub(super) struct JsonSchema {
    pub(super) schema: Option<Value>,
}

/// Stop strings of one request at most.
const STOPS: usize = 16;

impl Fields {
    /// Replies to each prompt.
    pub(super) fn n(&self) -> Result<usize, Failure> {
        match self.n.unwrap_or(1) {
            n @ 1..=128 => Ok(n),
            n => Err(Failure::invalid("n", format!("n is {n}, expected from 1 to 128"))),
        }
    }

    pub(super) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// How to generate; what a request does not say is taken from the checkpoint.
    pub(super) fn options(&self, logprobs: Option<usize>) -> Result<GenerateOptions, Failure> {
        let unknown = [
            ("logit_bias", self.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
            ("best_of", self.best_of.is_some_and(|best| best > 1)),
            ("echo", self.echo == Some(true)),
            ("suffix", self.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty())),
        ];
        if let Some((field, _)) = unknown.iter().find(|(_, there)| *there) {
            return Err(Failure::invalid(field, format!("{field} is not supported; leave it out")));
        }
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        };
        if stop.len() > STOPS {
            return Err(Failure::invalid("stop", format!("{} stop strings, expected at most {STOPS}", stop.len())));
        }
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        if max_tokens == Some(0) {
            return Err(Failure::invalid("max_tokens", "max_tokens is 0, expected at least 1"));
        }
        if logprobs.is_some_and(|top| top > 20) {
            return Err(Failure::invalid("top_logprobs", "at most 20 of the likeliest tokens are told"));
        }
        Ok(GenerateOptions {
            max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed.map(|seed| seed as u64),
            stop,
            ignore_eos: self.ignore_eos.unwrap_or(false),
            logprobs,
        })
    }
}
