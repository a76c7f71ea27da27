use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use super::state::State;
use crate::error::Error;

/// What requests have to name; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl FromStr for ApiKey {
    type Err = Error;

    /// A key as people paste it.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim() {
            "" => Err(Error::Name { what: "key", found: String::new(), expected: "at least one character".to_owned() }),
            key => Ok(Self(key.to_owned())),
        }
    }
}

impl ApiKey {
    /// Whether a request names it, found out in a time that does not tell where it differs.
    fn is(&self, given: &str) -> bool {
        let (key, given) = (self.0.as_bytes(), given.as_bytes());
        key.len() == given.len() && key.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Lets those through who have the key, if there is one.
pub(super) async fn check_key(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().trim();
    match &state.options.api_key {
        Some(key) if !key.is(given) => Failure::wrong_key().into_response(),
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerOptions;

    #[test]
    fn a_key_is_not_shown() {
        let key: ApiKey = " secret\n".parse().unwrap();
        assert!(key.is("secret") && !key.is("Secret") && !key.is(""));
        let options = ServerOptions { api_key: Some(key), ..ServerOptions::default() };
        assert!(!format!("{options:?} {options:#?}").contains("secret"));
        assert!(" ".parse::<ApiKey>().is_err());
    }
}
