use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;

use super::failure::Failure;
use super::object::Object;

/// A body that is a JSON object, and is called one: what a page of another site sends without asking first never is.
pub(super) struct Body {
    content_type: Option<String>,
    bytes: Result<Bytes, BytesRejection>,
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
        let bytes = self.bytes.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Failure::too_large(),
            status => Failure::of_status(status, rejection.body_text()),
        })?;
        let value = serde_json::from_slice(&bytes);
        Object::new(value.map_err(|error| Failure::invalid("", format!("the body is not JSON: {error}")))?, "")
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Self { content_type, bytes: Bytes::from_request(request, state).await })
    }
}
