use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{Form, answer, refuse};
use super::body::Body;
use super::failure::Failure;
use super::fields::{COUNT, FLAG, Fields, is_set};
use super::object::Object;
use super::replies::Replies;
use super::state::State;
use super::words::Words;
use crate::chat::{Conversation, Message};
use crate::generate::Token;

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// `POST /v1/chat/completions`.
pub(super) async fn completions(extract::State(state): extract::State<Arc<State>>, body: Body) -> Response {
    state.metrics.requests.fetch_add(1, Ordering::Relaxed);
    match ask(&state, body).await {
        Ok((fields, replies)) => answer::<Chat>(state, &fields, replies).await,
        Err(failure) => refuse(&state, &failure.about("messages")),
    }
}

async fn ask(state: &Arc<State>, body: Body) -> Result<(Fields, Replies), Failure> {
    let deadline = body.deadline;
    let request = body.read()?;
    state.check_model(request.get::<String>("model", "a text")?.as_deref())?;
    refuse_tools(&request)?;
    let top = request.get("top_logprobs", COUNT)?;
    let logprobs = request.get("logprobs", FLAG)?.unwrap_or(false).then_some(top.unwrap_or(0));
    let fields = Fields::read(&request, logprobs, "top_logprobs")?;
    let messages = request.objects("messages")?.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(request.wrong("messages", "at least one"));
    }
    let variables = request.object("chat_template_kwargs")?.map(Object::into_fields).unwrap_or_default();
    let conversation = Conversation { messages, add_generation_prompt: true, variables, ..Conversation::default() };
    let replies = Replies::ask(state, vec![conversation.into()], &fields, deadline).await?;
    Ok((fields, replies))
}

/// Calls are not read out of replies: a client that offers tools would wait for them in vain.
fn refuse_tools(request: &Object) -> Result<(), Failure> {
    let choice = request.value("tool_choice");
    if choice.is_some_and(|choice| choice == "none") {
        return Ok(());
    }
    let wanted = choice.is_some_and(|choice| choice != "auto");
    match request.value("tools").is_some_and(is_set) {
        true => Err(request.refuse("tools", "tools are not supported; leave them out, or send tool_choice \"none\"")),
        false if wanted => Err(request.wrong("tool_choice", "none: tools are not supported")),
        false => Ok(()),
    }
}

/// A message whose content is one text.
fn message(message: Object) -> Result<Message, Failure> {
    let role: String = message.need("role", &ROLES.join(", "))?;
    if !ROLES.contains(&role.as_str()) {
        return Err(message.wrong("role", &ROLES.join(", ")));
    }
    let content = match message.value("content") {
        Some(Value::Array(_)) => Some(message.objects("content")?.iter().map(part).collect::<Result<String, _>>()?),
        None if role == "assistant" => None,
        _ => Some(message.need("content", "a text, or a list of parts that are text")?),
    };
    let mut fields = message.into_fields();
    fields.extend(content.map(|content| ("content".to_owned(), Value::String(content))));
    if role == "developer" {
        // The newer name, which few templates know.
        fields.insert("role".to_owned(), "system".into());
    }
    Ok(fields.into())
}

/// The text of a part of a message.
fn part(part: &Object) -> Result<String, Failure> {
    match part.value("type").is_some_and(|kind| kind == "text") {
        true => part.need("text", "a text"),
        false => Err(part.wrong("type", "text: the server reads nothing else")),
    }
}

struct Chat;

impl Form for Chat {
    const ID: &'static str = "chatcmpl";
    const OBJECTS: [&'static str; 2] = ["chat.completion", "chat.completion.chunk"];

    fn choice(index: usize, tokens: &[Token], words: &Words) -> Value {
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        json!({
            "index": index,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": logprobs(tokens, words),
            "finish_reason": tokens.last().and_then(|token| token.finish_reason),
        })
    }

    fn opening(index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        Some(json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }))
    }

    fn part(token: &Token, _offset: usize, words: &Words) -> Value {
        let delta = match token.text.is_empty() {
            true => json!({}),
            false => json!({ "content": token.text }),
        };
        let logprobs = logprobs(std::slice::from_ref(token), words);
        json!({
            "index": token.sequence, "delta": delta, "logprobs": logprobs, "finish_reason": token.finish_reason,
        })
    }
}

fn logprobs(tokens: &[Token], words: &Words) -> Value {
    let one = |id: u32, logprob: f32| json!({ "token": words.text(id), "logprob": logprob, "bytes": words.bytes(id) });
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
