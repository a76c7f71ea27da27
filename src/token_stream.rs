//! Tokens for asynchronous programs, on no runtime in particular.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use leveret_models::Backend;

use crate::engine::Cancellation;
use crate::error::{AtPath, Error, Result};
use crate::generate::Token;
use crate::model::Model;
use crate::options::GenerateOptions;
use crate::prompt::Prompt;

/// Tokens of a generation that runs on a thread of its own.
///
/// It ends within the time of one layer when this is dropped.
#[derive(Debug)]
#[must_use = "a stream that is dropped ends its generation"]
pub struct TokenStream(Arc<Mutex<Channel>>);

/// What thread and stream share.
#[derive(Debug, Default)]
struct Channel {
    tokens: VecDeque<Result<Token>>,
    waker: Option<Waker>,
    /// What ends the generation, while it goes on.
    cancellation: Option<Cancellation>,
    ended: bool,
    dropped: bool,
}

/// The thread's end: whatever becomes of the thread, the stream ends with it.
struct Sender(Arc<Mutex<Channel>>);

impl TokenStream {
    /// Goes on from `prompt`, once the model is free.
    pub fn new<B: Backend>(model: &Arc<Mutex<Model<B>>>, prompt: impl Into<Prompt>, options: &GenerateOptions) -> Self
    where
        Model<B>: Send,
    {
        let channel = Arc::new(Mutex::new(Channel::default()));
        let sender = Sender(channel.clone());
        let (model, prompt, options) = (model.clone(), prompt.into(), options.clone());
        let run = move || {
            let mut model = lock(&model);
            // Dropped before the model is free: what ends this generation is to end no other.
            let sender = sender;
            if !sender.begin(model.cancellation()) {
                return;
            }
            match model.stream(prompt, &options) {
                Ok(mut tokens) => while tokens.next().is_some_and(|token| sender.send(token)) {},
                Err(error) => {
                    sender.send(Err(error));
                }
            }
        };
        let name = "leveret-stream";
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run).at(name) {
            lock(&channel).tokens.push_back(Err(error));
        }
        Self(channel)
    }
}

impl Stream for TokenStream {
    type Item = Result<Token>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut channel = lock(&self.0);
        match channel.tokens.pop_front() {
            None if !channel.ended => {
                channel.waker = Some(context.waker().clone());
                Poll::Pending
            }
            token => Poll::Ready(token),
        }
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        let mut channel = lock(&self.0);
        channel.dropped = true;
        channel.cancellation.iter().for_each(Cancellation::cancel);
    }
}

impl Sender {
    /// Whether somebody waits for tokens of a generation that `cancellation` ends.
    fn begin(&self, cancellation: Cancellation) -> bool {
        let mut channel = lock(&self.0);
        channel.cancellation = Some(cancellation);
        !channel.dropped
    }

    /// Whether somebody still waits for tokens.
    fn send(&self, token: Result<Token>) -> bool {
        let mut channel = lock(&self.0);
        channel.tokens.push_back(token);
        let (waker, dropped) = (channel.waker.take(), channel.dropped);
        drop(channel);
        waker.into_iter().for_each(Waker::wake);
        !dropped
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut channel = lock(&self.0);
        channel.ended = true;
        if std::thread::panicking() {
            channel.tokens.push_back(Err(Error::Panicked));
        }
        if let Some(cancellation) = channel.cancellation.take().filter(|_| channel.dropped) {
            cancellation.reset();
        }
        let waker = channel.waker.take();
        drop(channel);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// What is locked is whole even where a thread has panicked with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
