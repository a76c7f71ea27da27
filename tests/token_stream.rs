//! Tokens for asynchronous programs.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use futures_core::Stream;
use leveret::{Token, TokenStream};

use crate::support::{demo, greedy, load};

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The whole of a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Unpark(std::thread::current()))));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

async fn next(stream: &mut TokenStream) -> Option<leveret::Result<Token>> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

#[test]
fn streamed_equals_iterated() {
    let mut model = load(&demo());
    let expected = model.generate("Chapter", &greedy(8)).unwrap().0.tokens;
    let model = Arc::new(Mutex::new(model));
    let mut stream = TokenStream::new(&model, "Chapter", &greedy(8));
    let tokens = block_on(async {
        let mut tokens = Vec::new();
        while let Some(token) = next(&mut stream).await {
            tokens.push(token.unwrap().id);
        }
        tokens
    });
    assert_eq!(tokens, expected);
}

#[test]
fn errors_come_as_items() {
    let model = Arc::new(Mutex::new(load(&demo())));
    let mut stream = TokenStream::new(&model, "", &greedy(8));
    assert!(block_on(next(&mut stream)).unwrap().unwrap_err().to_string().contains("the prompt is empty"));
    assert!(block_on(next(&mut stream)).is_none());
}

/// The model is free again long before all tokens would have come.
#[test]
fn a_dropped_stream_ends_its_generation() {
    let model = Arc::new(Mutex::new(load(&demo())));
    let mut stream = TokenStream::new(&model, "Chapter", &greedy(500));
    block_on(next(&mut stream)).unwrap().unwrap();
    let one_pass = std::time::Instant::now();
    drop(stream);
    drop(model.lock().unwrap());
    let freed = one_pass.elapsed();
    let started = std::time::Instant::now();
    model.lock().unwrap().generate("Chapter", &greedy(500)).unwrap();
    assert!(freed < started.elapsed() / 2, "{freed:?}");
}
