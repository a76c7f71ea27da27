use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::object::Object;
use super::state::State;

/// A body that is a JSON object, and is called one: what a page of another site sends without asking first never is.
pub(super) struct Body {
    content_type: Option<String>,
    bytes: Result<Bytes, Failure>,
    /// When the request, its body included, has taken as long as it may.
    pub(super) deadline: Instant,
}

impl Body {
    /// What it says.
    pub(super) fn read(self) -> Result<Object, Failure> {
        let found = self.content_type.as_deref().unwrap_or("missing");
        if !is_json(found) {
            let message = format!(
                "the content type is {found}, expected application/json; send the header `Content-Type: application/json`"
            );
            return Err(Failure::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let value = serde_json::from_slice(&self.bytes?);
        Object::new(value.map_err(|error| Failure::invalid("", format!("the body is not JSON: {error}")))?, "")
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

impl FromRequest<Arc<State>> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, Self::Rejection> {
        let deadline = Instant::now() + state.timeout();
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let bytes = match timeout_at(deadline, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::too_large()),
            Ok(Err(rejection)) => Err(Failure::of_status(rejection.status(), rejection.body_text())),
            Err(_) => Err(Failure::slow_body(state.options.timeout)),
        };
        Ok(Self { content_type, bytes, deadline })
    }
}
