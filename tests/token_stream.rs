//! Tokens for asynchronous programs.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use burn::backend::Flex;
use burn::prelude::Tensor;
use futures_core::Stream;
use leveret::models::layers::{Attention, AttentionInput, Eager};
use leveret::{Backend, Error, Model, Token, TokenStream};

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

/// Attention that does something before each call, with the number of calls before it.
struct Before<F>(F, AtomicUsize);

impl<F> std::fmt::Debug for Before<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

impl<B: Backend, F: Fn(usize) + Send + Sync> Attention<B> for Before<F> {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        self.0(self.1.fetch_add(1, Ordering::Relaxed));
        Eager.forward(input)
    }
}

fn load_with(before: impl Fn(usize) + Send + Sync + 'static) -> Arc<Mutex<Model<Flex>>> {
    let attention = Before(before, AtomicUsize::new(0));
    Arc::new(Mutex::new(Model::builder(demo()).custom_attention(attention).load().unwrap()))
}

/// A reply that was cut off by a panic is not taken for a whole one, and the model serves the next.
#[test]
fn a_panic_is_an_error_at_the_end() {
    let model = load_with(|call| assert_ne!(call, 6, "a defect"));
    let mut stream = TokenStream::new(&model, "Chapter", &greedy(8));
    let (tokens, last) = block_on(async {
        let mut tokens = 0;
        loop {
            match next(&mut stream).await {
                Some(Ok(_)) => tokens += 1,
                last => return (tokens, last),
            }
        }
    });
    assert!(tokens < 8 && matches!(last, Some(Err(Error::Panicked))), "{tokens} {last:?}");
    assert!(block_on(next(&mut stream)).is_none());
    let mut again = TokenStream::new(&model, "Chapter", &greedy(1));
    assert!(block_on(next(&mut again)).unwrap().is_ok());
}

/// It does not even end its pass, and nothing of that is left for the next generation.
#[test]
fn a_dropped_stream_ends_within_a_layer() {
    let (called, calls) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let model = load_with(move |call| {
        called.send(call).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let stream = TokenStream::new(&model, "Chapter", &greedy(8));
    assert_eq!(calls.recv(), Ok(0));
    drop(stream);
    drop(go_on);
    assert_eq!(model.lock().unwrap().generate("Chapter", &greedy(1)).unwrap().0.tokens.len(), 1);
    let layers = model.lock().unwrap().dims().num_layers;
    assert!(layers > 1);
    assert_eq!(calls.try_iter().last(), Some(layers), "one call of the pass that was ended");
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
