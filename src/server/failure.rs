use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::object::shown;
use crate::error::Error;

/// An error as OpenAI's clients expect it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Failure {
    /// What is wrong with a request, and with which of its fields.
    pub(super) fn invalid(param: &str, message: impl Into<String>) -> Self {
        let param = (!param.is_empty()).then(|| param.to_owned());
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message) }
    }

    /// What a field is, and what it should be.
    pub(super) fn wrong(param: &str, found: Option<&Value>, expected: &str) -> Self {
        let name = if param.is_empty() { "the body" } else { param };
        let found = found.map_or_else(|| "missing".to_owned(), shown);
        Self::invalid(param, format!("{name} is {found}, expected {expected}"))
    }

    pub(super) fn unknown_model(found: &str, expected: &str) -> Self {
        let message = format!("the model `{found}` is not here; expected `{expected}`");
        let kind = "invalid_request_error";
        Self {
            param: Some("model".to_owned()),
            ..Self::new(StatusCode::NOT_FOUND, kind, Some("model_not_found"), message)
        }
    }

    pub(super) fn wrong_key() -> Self {
        let message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key"), message)
    }

    pub(super) fn queue_full(queue: usize) -> Self {
        let message = format!("{queue} requests are waiting already; try again later");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message)
    }

    pub(super) fn too_large() -> Self {
        let message = "the body is larger than the server takes; send a shorter conversation or raise --body-limit";
        Self::of_status(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn timeout(seconds: u64) -> Self {
        let message = format!("no complete answer within {seconds} s; ask for fewer tokens or raise --timeout");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", Some("timeout"), message)
    }

    pub(super) fn slow_body(seconds: u64) -> Self {
        let message = format!("the body was not here within {seconds} s; send it faster or raise --timeout");
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout_error", Some("timeout"), message)
    }

    pub(super) fn forbidden_host(host: &str) -> Self {
        let message = format!(
            "the server listens on loopback and does not go by the name `{host}`; ask for localhost, or start it with \
             --allow-origin http://{host}"
        );
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", Some("host_not_allowed"), message)
    }

    pub(super) fn forbidden_origin(origin: &str) -> Self {
        let message =
            format!("pages of `{origin}` may not ask; start the server with --allow-origin {origin} to let them");
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", Some("origin_not_allowed"), message)
    }

    pub(super) fn stopped() -> Self {
        let message = "the server is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("shutting_down"), message)
    }

    /// The thread that runs the model is no more.
    pub(super) fn scheduler_ended() -> Self {
        let message =
            "the thread that runs the model has ended; /health and the server's standard error say why; start it again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("scheduler_ended"), message)
    }

    /// A request could not be made ready, for a defect of ours.
    pub(super) fn unprepared() -> Self {
        let message = "the request could not be prepared; the server's standard error says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// What a status says that came without a message of ours.
    pub(super) fn of_status(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        Self::new(status, kind, None, message)
    }

    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code }
    }

    /// The same, about a field unless it names one already.
    pub(super) fn about(self, param: &str) -> Self {
        match self.code {
            Some("context_length_exceeded") => Self { param: self.param.or_else(|| Some(param.to_owned())), ..self },
            _ => self,
        }
    }

    pub(super) fn json(&self) -> Value {
        let Self { message, kind, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::TooLong { .. } => {
                let (status, kind) = (StatusCode::BAD_REQUEST, "invalid_request_error");
                Self::new(status, kind, Some("context_length_exceeded"), message)
            }
            Error::Sampling { option, .. } => Self::invalid(option, message),
            Error::EmptyPrompt | Error::TokenId { .. } => Self::invalid("prompt", message),
            Error::Template { .. } | Error::NoTemplate { .. } => Self::invalid("messages", message),
            Error::Constraint { .. } => Self::invalid("response_format", message),
            Error::NoTokenizer { .. } => {
                Self::invalid("", "the model has no tokenizer.json; send token ids, and no response_format")
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.json())).into_response()
    }
}
