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
use crate::chat::{Conversation, Message};
use crate::encoder::Encoder;
use crate::generate::Token;

/// What a request for a chat completion says.
#[derive(Debug, Deserialize)]
struct Request {
    messages: Vec<Map<String, Value>>,
    tools: Option<Value>,
    chat_template_kwargs: Option<Map<String, Value>>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    #[serde(flatten)]
    fields: Fields,
}

/// `POST /v1/chat/completions`.
pub(super) async fn completions(extract::State(state): extract::State<Arc<State>>, body: Body) -> Response {
    state.metrics.requests.fetch_add(1, Ordering::Relaxed);
    match ask(&state, body).await {
        Ok((fields, replies)) => answer::<Chat>(state, fields, replies).await,
        Err(failure) => refuse(&state, failure),
    }
}

async fn ask(state: &Arc<State>, body: Body) -> Result<(Fields, Replies), Failure> {
    let request: Request = body.read()?;
    state.check_model(request.fields.model.as_deref())?;
    if request.messages.is_empty() {
        return Err(Failure::invalid("messages", "messages is empty, expected at least one"));
    }
    let messages = request.messages.into_iter().map(message).collect::<Result<_, _>>()?;
    let conversation = Conversation {
        messages,
        add_generation_prompt: true,
        tools: request.tools.filter(|tools| tools.as_array().is_some_and(|tools| !tools.is_empty())),
        variables: request.chat_template_kwargs.unwrap_or_default(),
        ..Conversation::default()
    };
    let logprobs = (request.logprobs == Some(true)).then_some(request.top_logprobs.unwrap_or(0));
    let options = request.fields.options(logprobs)?;
    let replies = Replies::ask(state, vec![conversation.into()], &request.fields, options).await?;
    Ok((request.fields, replies))
}

/// A message whose content is one text.
fn message(mut fields: Map<String, Value>) -> Result<Message, Failure> {
    if !fields.get("role").is_some_and(Value::is_string) {
        return Err(Failure::invalid("messages", "a message has no role"));
    }
    if let Some(Value::Array(parts)) = fields.get("content") {
        let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
            (Some("text"), Some(text)) => Ok(text.to_owned()),
            (kind, _) => {
                let kind = kind.unwrap_or("without a type");
                Err(Failure::invalid("messages", format!("content is {kind}, expected text")))
            }
        };
        let text = parts.iter().map(text).collect::<Result<String, _>>()?;
        fields.insert("content".to_owned(), text.into());
    }
    Ok(fields.into())
}

struct Chat;

impl Form for Chat {
    const ID: &'static str = "chatcmpl";
    const OBJECTS: [&'static str; 2] = ["chat.completion", "chat.completion.chunk"];

    fn choice(index: usize, tokens: &[Token], encoder: &Encoder) -> Value {
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        json!({
            "index": index,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": logprobs(tokens, encoder),
            "finish_reason": tokens.last().and_then(|token| token.finish_reason),
        })
    }

    fn opening(index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        Some(json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }))
    }

    fn part(token: &Token, _offset: usize, encoder: &Encoder) -> Value {
        let delta = match token.text.is_empty() {
            true => json!({}),
            false => json!({ "content": token.text }),
        };
        let logprobs = logprobs(std::slice::from_ref(token), encoder);
        json!({
            "index": token.sequence, "delta": delta, "logprobs": logprobs, "finish_reason": token.finish_reason,
        })
    }
}

fn logprobs(tokens: &[Token], encoder: &Encoder) -> Value {
    let one = |id: u32, logprob: f32| {
        let text = encoder.text(id);
        json!({ "token": text, "logprob": logprob, "bytes": text.as_bytes() })
    };
    let of = |token: &Token| {
        let told = token.logprobs.as_ref()?;
        let mut entry = one(token.id, told.logprob);
        entry["top_logprobs"] = told.top.iter().map(|(id, logprob)| one(*id, *logprob)).collect();
        Some(entry)
    };
    match tokens.iter().map(of).collect::<Option<Vec<_>>>() {
        Some(content) if !content.is_empty() => json!({ "content": content, "refusal": null }),
        _ => Value::Null,
    }
}
