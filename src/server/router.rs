use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::access::check_key;
use super::failure::Failure;
use super::origin::{Guard, check_origin};
use super::state::State;
use super::{chat, completions, page};

/// All paths, and what stands before them.
pub(super) fn router(state: Arc<State>, guard: Arc<Guard>) -> Router {
    let body_limit = state.options.body_limit;
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(one_model))
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(state.clone(), check_key));
    let routes = Router::new()
        .route("/", get(page::page))
        .route("/health", get(health))
        .merge(guarded)
        .fallback(|| async { Failure::of_status(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Failure::of_status(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
        })
        .layer(DefaultBodyLimit::max(body_limit))
        .with_state(state);
    let routes = match guard.cors() {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(from_fn_with_state(guard, check_origin))
}

async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    match state.health.reason() {
        None => Json(json!({ "status": "ok" })).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed", "reason": reason }))).into_response()
        }
    }
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.text())
}

async fn models(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model(&state)] }))
}

async fn one_model(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    state.check_model(Some(&name))?;
    Ok(Json(model(&state)))
}

fn model(state: &State) -> Value {
    json!({
        "id": state.options.name, "object": "model", "created": state.started, "owned_by": "leveret",
        "max_model_len": state.limits.context(),
    })
}
