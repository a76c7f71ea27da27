//! Answers whole or as server-sent events, whatever they are about.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tokio::time::timeout_at;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::fields::Fields;
use super::replies::Replies;
use super::state::{State, now};
use super::words::Words;
use crate::generate::Token;

/// What chat and completions write differently.
pub(super) trait Form: Send + Sync + 'static {
    /// The beginning of ids.
    const ID: &'static str;
    /// The kind of a whole answer, and of a part of one.
    const OBJECTS: [&'static str; 2];

    /// A choice of a whole answer.
    fn choice(index: usize, tokens: &[Token], words: &Words) -> Value;

    /// What comes before the first token of a choice.
    fn opening(index: usize) -> Option<Value>;

    /// A choice of one token; `offset` is the length of the text before it.
    fn part(token: &Token, offset: usize, words: &Words) -> Value;
}

/// Answers a request in one piece or as it comes.
pub(super) async fn answer<F: Form>(state: Arc<State>, fields: &Fields, replies: Replies) -> Response {
    let id = format!("{}-{:016x}", F::ID, rand::random::<u64>());
    match fields.stream {
        true => stream::<F>(state, fields.include_usage, id, replies),
        false => whole::<F>(&state, id, replies).await.unwrap_or_else(|failure| refuse(&state, &failure)),
    }
}

/// Counts a failure and tells it.
pub(super) fn refuse(state: &State, failure: &Failure) -> Response {
    state.metrics.failures.fetch_add(1, Ordering::Relaxed);
    failure.clone().into_response()
}

async fn whole<F: Form>(state: &State, id: String, mut replies: Replies) -> Result<Response, Failure> {
    let mut tokens: Vec<Vec<Token>> = vec![Vec::new(); replies.count];
    while let Some(token) = replies.next().await {
        let token = token?;
        tokens[token.sequence].push(token);
    }
    let choices = tokens.iter().enumerate().map(|(index, tokens)| F::choice(index, tokens, &state.words));
    let choices: Vec<_> = choices.collect();
    let usage = usage(replies.prompt_tokens, tokens.iter().map(Vec::len).sum());
    Ok(Json(json!({
        "id": id, "object": F::OBJECTS[0], "created": now(), "model": state.options.name, "choices": choices,
        "usage": usage,
    }))
    .into_response())
}

fn stream<F: Form>(state: Arc<State>, include_usage: bool, id: String, mut replies: Replies) -> Response {
    // A slow reader is waited for here, as long as the reply may take; the reply goes on.
    let (sender, receiver) = channel::<Result<Event, Infallible>>(64);
    let created = now();
    tokio::spawn(async move {
        let chunk = |choices: Value| {
            let object = F::OBJECTS[1];
            let model = &state.options.name;
            let mut chunk =
                json!({ "id": id, "object": object, "created": created, "model": model, "choices": choices });
            if include_usage {
                chunk["usage"] = Value::Null;
            }
            chunk
        };
        let mut count = 0;
        let mut offsets = vec![None; replies.count];
        loop {
            let token = tokio::select! {
                token = replies.next() => token,
                // Nobody reads any more: dropping the replies ends them.
                () = sender.closed() => return,
            };
            let mut parts = Vec::new();
            match token {
                None => break,
                Some(Ok(token)) => {
                    count += 1;
                    let offset = &mut offsets[token.sequence];
                    if offset.is_none() {
                        parts.extend(F::opening(token.sequence).map(|opening| chunk(json!([opening]))));
                    }
                    let before = offset.unwrap_or(0);
                    parts.push(chunk(json!([F::part(&token, before, &state.words)])));
                    *offset = Some(before + token.text.chars().count());
                }
                Some(Err(failure)) => {
                    state.metrics.failures.fetch_add(1, Ordering::Relaxed);
                    parts.push(failure.json());
                }
            }
            for part in parts {
                let event = Event::default().data(part.to_string());
                if !matches!(timeout_at(replies.deadline, sender.send(Ok(event))).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
        if include_usage {
            let mut last = chunk(json!([]));
            last["usage"] = usage(replies.prompt_tokens, count);
            let _ = timeout_at(replies.deadline, sender.send(Ok(Event::default().data(last.to_string())))).await;
        }
        let _ = timeout_at(replies.deadline, sender.send(Ok(Event::default().data("[DONE]")))).await;
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()).into_response()
}

fn usage(prompt: usize, completion: usize) -> Value {
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}
