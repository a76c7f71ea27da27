use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use leveret_models::Backend;
use serde_json::{Value, json};

use super::access::check_key;
use super::failure::Failure;
use super::metrics::Metrics;
use super::state::{State, now};
use super::{chat, completions, page, scheduler};
use crate::error::{AtPath, Error, Result};
use crate::model::Model;

/// How a server works.
#[derive(Clone)]
pub struct ServerOptions {
    /// The name that the model is served under.
    pub name: String,
    /// Sequences that a pass serves at most.
    pub max_sequences: usize,
    /// Positions of each, prompt and reply together.
    pub context: usize,
    /// Requests that may wait for room; others are refused.
    pub queue: usize,
    /// Seconds that a request may take.
    pub timeout: u64,
    /// Bytes that a request may have.
    pub body_limit: usize,
    /// What requests have to name, if anything.
    pub api_key: Option<String>,
}

impl std::fmt::Debug for ServerOptions {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        let name = "leveret".to_owned();
        Self { name, max_sequences: 8, context: 4096, queue: 64, timeout: 600, body_limit: 4 << 20, api_key: None }
    }
}

/// Serves a model at a socket until `shutdown`, then ends what has been begun.
pub fn serve<B: Backend>(
    mut model: Model<B>,
    listener: TcpListener,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (jobs, receiver) = channel();
    let metrics = Arc::new(Metrics::default());
    let (max_sequences, context) = (options.max_sequences, options.context);
    let encoder = model.encoder().clone();
    let state = Arc::new(State {
        options,
        encoder,
        grammars: model.grammars().map_err(Failure::from),
        metrics: metrics.clone(),
        jobs,
        started: now(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().at("threads")?;
    let batch = model.batch(max_sequences, context)?;
    let address = listener.local_addr().map_or_else(|_| "socket".to_owned(), |address| address.to_string());
    listener.set_nonblocking(true).at(&address)?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router(state)).with_graceful_shutdown(shutdown).await
            });
            // What still computes for nobody need not be waited for.
            runtime.shutdown_background();
            served
        });
        // Ends when the server has: then nobody can send jobs any more.
        scheduler::run(batch, &receiver, &metrics);
        server.join().map_err(|_| Error::ReaderStopped)?.at(&address)
    })
}

fn router(state: Arc<State>) -> Router {
    let body_limit = state.options.body_limit;
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(one_model))
        .route("/metrics", get(metrics_text))
        .route_layer(from_fn_with_state(state.clone(), check_key));
    Router::new()
        .route("/", get(page::page))
        .route("/health", get(health))
        .merge(guarded)
        .fallback(|| async { Failure::of_status(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Failure::of_status(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
        })
        .layer(DefaultBodyLimit::max(body_limit))
        .with_state(state)
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn metrics_text(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.text())
}

async fn models(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model(&state)] }))
}

async fn one_model(
    Shared(state): Shared<Arc<State>>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Json<Value>, Failure> {
    state.check_model(Some(&name))?;
    Ok(Json(model(&state)))
}

fn model(state: &State) -> Value {
    json!({ "id": state.options.name, "object": "model", "created": state.started, "owned_by": "leveret" })
}
