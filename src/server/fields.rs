//! What requests may say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::failure::Failure;
use super::object::Object;
use crate::options::GenerateOptions;

/// The fields that both kinds of requests have.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Replies to each prompt.
    pub(super) n: usize,
    /// How to generate; what a request does not say is taken from the checkpoint.
    pub(super) options: GenerateOptions,
    /// What replies have to be of.
    pub(super) schema: Option<Value>,
}

pub(super) const COUNT: &str = "a whole number from 0 on";
pub(super) const FLAG: &str = "true or false";
const NUMBER: &str = "a number";

/// Replies to a prompt, stop strings and likeliest tokens that one request asks for at most.
const REPLIES: usize = 128;
const STOPS: usize = 16;
const TOP: usize = 20;

/// Fields that would change the reply and are not known here, of OpenAI, llama.cpp and vLLM.
const UNKNOWN: [&str; 16] = [
    "audio",
    "continue_final_message",
    "echo",
    "function_call",
    "functions",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "json_schema",
    "min_tokens",
    "prompt_logprobs",
    "stop_token_ids",
    "structured_outputs",
    "suffix",
];

impl Fields {
    /// Reads a request, with so many of the likeliest tokens to tell, as the field `top` says.
    pub(super) fn read(request: &Object, logprobs: Option<usize>, top: &str) -> Result<Self, Failure> {
        if let Some(name) = UNKNOWN.into_iter().find(|name| request.value(name).is_some_and(is_set)) {
            return Err(request.refuse(name, format!("{name} is not supported; leave it out")));
        }
        if logprobs.is_some_and(|logprobs| logprobs > TOP) {
            return Err(request.wrong(top, &format!("from 0 to {TOP}")));
        }
        let n = request.get("n", COUNT)?.unwrap_or(1);
        if !(1..=REPLIES).contains(&n) {
            return Err(request.wrong("n", &format!("from 1 to {REPLIES}")));
        }
        if request.get("best_of", COUNT)?.is_some_and(|best_of: usize| best_of != n) {
            return Err(request.wrong("best_of", &format!("{n}, as n is: all replies are given; leave it out")));
        }
        let stream_options = request.object("stream_options")?;
        let include_usage = stream_options.map(|options| options.get("include_usage", FLAG)).transpose()?.flatten();
        Ok(Self {
            stream: request.get("stream", FLAG)?.unwrap_or(false),
            include_usage: include_usage.unwrap_or(false),
            n,
            options: GenerateOptions {
                max_tokens: max_tokens(request)?,
                temperature: request.get("temperature", NUMBER)?,
                top_k: request.get("top_k", COUNT)?,
                top_p: request.get("top_p", NUMBER)?,
                min_p: request.get("min_p", NUMBER)?,
                repetition_penalty: request.get("repetition_penalty", NUMBER)?,
                presence_penalty: request.get("presence_penalty", NUMBER)?,
                frequency_penalty: request.get("frequency_penalty", NUMBER)?,
                logit_bias: logit_bias(request)?,
                seed: request.get("seed", "a whole number")?.map(|seed: i64| seed as u64),
                stop: stop(request)?,
                ignore_eos: request.get("ignore_eos", FLAG)?.unwrap_or(false),
                logprobs,
            },
            schema: schema(request)?,
        })
    }
}

/// Whether a value asks for anything.
pub(super) fn is_set(value: &Value) -> bool {
    let nothing = [json!(false), json!(0), json!(""), json!([]), json!({})];
    !value.is_null() && !nothing.contains(value)
}

fn max_tokens(request: &Object) -> Result<Option<usize>, Failure> {
    let expected = "a whole number from 1 on";
    let read = |name| match request.get(name, expected)? {
        Some(0) => Err(request.wrong(name, expected)),
        max_tokens => Ok(max_tokens),
    };
    let (old, new) = (read("max_tokens")?, read("max_completion_tokens")?);
    Ok(new.or(old))
}

fn stop(request: &Object) -> Result<Vec<String>, Failure> {
    let stop = match request.value("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        _ => request.get("stop", "a text or a list of texts")?.unwrap_or_default(),
    };
    match stop.len() {
        0..=STOPS => Ok(stop),
        _ => Err(request.wrong("stop", &format!("at most {STOPS} texts"))),
    }
}

fn logit_bias(request: &Object) -> Result<Vec<(u32, f32)>, Failure> {
    let expected = "an object of numbers from -100 to 100 by token ids";
    let bias: BTreeMap<u32, f32> = request.get("logit_bias", expected)?.unwrap_or_default();
    match bias.values().all(|bias| (-100.0..=100.0).contains(bias)) {
        true => Ok(bias.into_iter().collect()),
        false => Err(request.wrong("logit_bias", expected)),
    }
}

/// What a reply has to be of, if it is to be JSON.
fn schema(request: &Object) -> Result<Option<Value>, Failure> {
    let Some(format) = request.object("response_format")? else { return Ok(None) };
    let of = |object: &Object| object.value("schema").cloned();
    match format.value("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(of(&format).unwrap_or_else(|| json!({ "type": "object" })))),
        Some("json_schema") => match format.object("json_schema")? {
            Some(named) => Ok(Some(of(&named).unwrap_or_else(|| json!({})))),
            None => Err(format.wrong("json_schema", "an object with a schema")),
        },
        _ => Err(format.wrong("type", "text, json_object or json_schema")),
    }
}
