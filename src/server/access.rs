//! Who may ask, and bodies that are JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request, State as Shared};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::state::State;

/// Lets those through who have the key, if there is one.
pub(super) async fn check_key(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    match &state.options.api_key {
        // An empty key is nobody's.
        Some(key) if key.is_empty() || !same(key.as_bytes(), given.trim().as_bytes()) => {
            Failure::wrong_key().into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether two texts are equal, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// A body that is read as JSON whatever its content type is called.
pub(super) struct Body(Result<Bytes, BytesRejection>);

impl Body {
    /// What it says.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let bytes = self.0.map_err(|rejection| Failure::of_status(rejection.status(), rejection.body_text()))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::invalid("", format!("the body is not as expected: {error}")))
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Bytes::from_request(request, state).await))
    }
}
