use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Form, answer, refuse};
use super::body::Body;
use super::failure::Failure;
use super::fields::{COUNT, Fields, is_set};
use super::replies::Replies;
use super::state::State;
use super::words::Words;
use crate::generate::Token;
use crate::prompt::Prompt;
use crate::sequence::Logprobs;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Several(Vec<Vec<u32>>),
}

const PROMPTS: &str = "a text, a list of texts, a list of token ids or a list of such lists";

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
        Ok((fields, replies)) => answer::<Completion>(state, &fields, replies).await,
        Err(failure) => refuse(&state, &failure.about("prompt")),
    }
}

async fn ask(state: &Arc<State>, body: Body) -> Result<(Fields, Replies), Failure> {
    let deadline = body.deadline;
    let request = body.read()?;
    state.check_model(request.get::<String>("model", "a text")?.as_deref())?;
    let logprobs = request.value("logprobs").filter(|value| is_set(value) || value.is_number());
    let logprobs = logprobs.map(|_| request.need("logprobs", COUNT)).transpose()?;
    let fields = Fields::read(&request, logprobs, "logprobs")?;
    let prompts = request.need::<Prompts>("prompt", PROMPTS)?.all();
    if prompts.is_empty() {
        return Err(request.wrong("prompt", "at least one"));
    }
    let replies = Replies::ask(state, prompts, &fields, deadline).await?;
    Ok((fields, replies))
}

struct Completion;

impl Form for Completion {
    const ID: &'static str = "cmpl";
    const OBJECTS: [&'static str; 2] = ["text_completion", "text_completion"];

    fn choice(index: usize, tokens: &[Token], words: &Words) -> Value {
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        let finish_reason = tokens.last().and_then(|token| token.finish_reason);
        let logprobs = logprobs(tokens, 0, words);
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason })
    }

    fn opening(_index: usize) -> Option<Value> {
        None
    }

    fn part(token: &Token, offset: usize, words: &Words) -> Value {
        let logprobs = logprobs(std::slice::from_ref(token), offset, words);
        json!({
            "index": token.sequence, "text": token.text, "logprobs": logprobs, "finish_reason": token.finish_reason,
        })
    }
}

fn logprobs(tokens: &[Token], mut offset: usize, words: &Words) -> Value {
    let told: Option<Vec<_>> = tokens.iter().map(|token| Some((token.id, token.logprobs.as_ref()?))).collect();
    let Some(told) = told.filter(|told| !told.is_empty()) else { return Value::Null };
    let offsets = tokens.iter().map(|token| {
        let before = offset;
        offset += token.text.chars().count();
        before
    });
    let offsets: Vec<_> = offsets.collect();
    json!({
        "tokens": told.iter().map(|(id, _)| words.text(*id)).collect::<Vec<_>>(),
        "token_logprobs": told.iter().map(|(_, told)| told.logprob).collect::<Vec<_>>(),
        "top_logprobs": told.iter().map(|(id, told)| top_logprobs(*id, told, words)).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// The likeliest tokens and the one that came; of those that read the same all but the likeliest go by their ids.
fn top_logprobs(id: u32, told: &Logprobs, words: &Words) -> Map<String, Value> {
    let came = Some((id, told.logprob)).filter(|_| told.top.iter().all(|(other, _)| *other != id));
    told.top.iter().copied().chain(came).fold(Map::new(), |mut map, (id, logprob)| {
        let text = words.text(id);
        let key = if map.contains_key(&text) { format!("token_id:{id}") } else { text };
        map.insert(key, json!(logprob));
        map
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::words::tests::words;

    #[test]
    fn tokens_that_read_the_same_are_all_told() {
        let words = words(&[b"a", b"a", b"b", b"a"]);
        let told = Logprobs { logprob: -4.0, top: vec![(0, -1.0), (2, -2.0), (1, -3.0)] };
        let map = json!({ "a": -1.0, "b": -2.0, "token_id:1": -3.0, "token_id:3": -4.0 });
        assert_eq!(Value::Object(top_logprobs(3, &told, &words)), map);
    }
}
