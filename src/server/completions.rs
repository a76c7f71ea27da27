use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Body;
use super::answer::{Form, answer, refuse};
use super::failure::Failure;
use super::fields::Fields;
use super::replies::Replies;
use super::state::State;
use crate::encoder::Encoder;
use crate::generate::Token;
use crate::prompt::Prompt;

/// What a request for a completion says.
#[derive(Debug, Deserialize)]
struct Request {
    prompt: Prompts,
    logprobs: Option<usize>,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Several(Vec<Vec<u32>>),
}

impl Prompts {
    fn all(self) -> Vec<Prompt> {
        match self {
            Self::Text(text) => vec![text.into()],
            Self::Texts(texts) => texts.into_iter().map(Prompt::from).collect(),
            Self::Tokens(tokens) => vec![tokens.into()],
            Self::Several(prompts) => prompts.into_iter().map(Prompt::from).collect(),
        }
    }
}

/// `POST /v1/completions`.
pub(super) async fn completions(extract::State(state): extract::State<Arc<State>>, body: Body) -> Response {
    state.metrics.requests.fetch_add(1, Ordering::Relaxed);
    match ask(&state, body).await {
        Ok((fields, replies)) => answer::<Completion>(state, fields, replies).await,
        Err(failure) => refuse(&state, failure),
    }
}

async fn ask(state: &Arc<State>, body: Body) -> Result<(Fields, Replies), Failure> {
    let request: Request = body.read()?;
    state.check_model(request.fields.model.as_deref())?;
    let options = request.fields.options(request.logprobs)?;
    let prompts = request.prompt.all();
    if prompts.is_empty() {
        return Err(Failure::invalid("prompt", "prompt is empty, expected at least one"));
    }
    let replies = Replies::ask(state, prompts, &request.fields, options).await?;
    Ok((request.fields, replies))
}

struct Completion;

impl Form for Completion {
    const ID: &'static str = "cmpl";
    const OBJECTS: [&'static str; 2] = ["text_completion", "text_completion"];

    fn choice(index: usize, tokens: &[Token], encoder: &Encoder) -> Value {
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        let finish_reason = tokens.last().and_then(|token| token.finish_reason);
        let logprobs = logprobs(tokens, 0, encoder);
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason })
    }

    fn opening(_index: usize) -> Option<Value> {
        None
    }

    fn part(token: &Token, offset: usize, encoder: &Encoder) -> Value {
        let logprobs = logprobs(std::slice::from_ref(token), offset, encoder);
        json!({
            "index": token.sequence, "text": token.text, "logprobs": logprobs, "finish_reason": token.finish_reason,
        })
    }
}

fn logprobs(tokens: &[Token], mut offset: usize, encoder: &Encoder) -> Value {
    let told: Option<Vec<_>> = tokens.iter().map(|token| token.logprobs.as_ref()).collect();
    let Some(told) = told.filter(|told| !told.is_empty()) else { return Value::Null };
    let offsets = tokens.iter().map(|token| {
        let before = offset;
        offset += token.text.chars().count();
        before
    });
    let offsets: Vec<_> = offsets.collect();
    let top = |top: &[(u32, f32)]| -> Map<String, Value> {
        top.iter().map(|(id, logprob)| (encoder.text(*id), json!(logprob))).collect()
    };
    json!({
        "tokens": tokens.iter().map(|token| encoder.text(token.id)).collect::<Vec<_>>(),
        "token_logprobs": told.iter().map(|told| told.logprob).collect::<Vec<_>>(),
        "top_logprobs": told.iter().map(|told| top(&told.top)).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}
