//! Which pages may ask: a browser sends what any page tells it to, also to servers that only this machine reaches.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State as Shared};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::failure::Failure;
use super::options::ServerOptions;
use crate::error::Error;

/// An origin whose pages may ask, as `scheme://host` or `scheme://host:port`; `*` is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(String);

impl FromStr for AllowedOrigin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let origin = Self(text.trim().trim_end_matches('/').to_ascii_lowercase());
        match origin.is_any() || origin.authority().is_some_and(|authority| !authority.as_str().contains('@')) {
            true => Ok(origin),
            false => Err(Error::Name {
                what: "origin",
                found: text.to_owned(),
                expected: "scheme://host, scheme://host:port, or * for any".to_owned(),
            }),
        }
    }
}

impl AllowedOrigin {
    fn is_any(&self) -> bool {
        self.0 == "*"
    }

    fn authority(&self) -> Option<Authority> {
        let (scheme, authority) = self.0.split_once("://")?;
        authority.parse().ok().filter(|_| !scheme.is_empty())
    }
}

/// What requests have to come by, and from.
#[derive(Debug)]
pub(super) struct Guard {
    /// Where only this machine is to reach the server, names that it goes by beside those of loopback: a page whose own
    /// name leads here would otherwise be of the same origin.
    names: Option<Vec<String>>,
    origins: Vec<AllowedOrigin>,
}

impl Guard {
    pub(super) fn new(options: &ServerOptions, address: IpAddr) -> Self {
        let origins = options.allow_origins.clone();
        let names = origins.iter().filter_map(AllowedOrigin::authority).map(|name| name.host().to_owned());
        let names: Vec<_> = names.chain(options.host.iter().map(|host| host.to_ascii_lowercase())).collect();
        let closed = address.to_canonical().is_loopback() && !origins.iter().any(AllowedOrigin::is_any);
        Self { names: closed.then_some(names), origins }
    }

    /// What tells browsers which pages may read answers, if there are any but the server's own.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        let origins: Vec<_> = self.origins.iter().filter_map(|origin| HeaderValue::from_str(&origin.0).ok()).collect();
        let origins = match self.origins.iter().any(AllowedOrigin::is_any) {
            _ if origins.is_empty() => return None,
            true => AllowOrigin::any(),
            false => AllowOrigin::list(origins),
        };
        let cors = CorsLayer::new().allow_origin(origins).allow_methods([Method::GET, Method::POST]);
        let cors = cors.allow_headers(AllowHeaders::mirror_request()).allow_private_network(true);
        Some(cors.max_age(Duration::from_secs(600)))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let host = headers.get(HOST).map(text);
        if let (Some(names), Some(host)) = (&self.names, &host) {
            let name = host.parse::<Authority>().map(|authority| authority.host().to_owned());
            if !name.is_ok_and(|name| is_loopback(&name) || names.contains(&name)) {
                return Err(Failure::forbidden_host(host));
            }
        }
        let Some(origin) = headers.get(ORIGIN).map(text) else { return Ok(()) };
        let own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host.as_deref());
        match own || self.origins.iter().any(|allowed| allowed.is_any() || allowed.0 == origin) {
            true => Ok(()),
            false => Err(Failure::forbidden_origin(&origin)),
        }
    }
}

/// Whether a name or address leads to this machine whoever is asked.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Lets those through that may ask.
pub(super) async fn check_origin(Shared(guard): Shared<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn guard(address: &str, origins: &[&str]) -> Guard {
        let allow_origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        let options = ServerOptions { allow_origins, host: Some("Burrow".to_owned()), ..ServerOptions::default() };
        Guard::new(&options, address.parse().unwrap())
    }

    fn allows(guard: &Guard, host: &str, origin: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        guard.check(&headers).is_ok()
    }

    #[rstest]
    #[case("localhost:8080", "", true)]
    #[case("LOCALHOST", "http://localhost", true)]
    #[case("chat.localhost:8080", "", true)]
    #[case("127.0.0.1:8080", "http://127.0.0.1:8080", true)]
    #[case("127.9.9.9", "", true)]
    #[case("[::1]:8080", "http://[::1]:8080", true)]
    #[case("burrow:8080", "http://burrow:8080", true)]
    #[case("", "", true)]
    #[case("evil.example", "", false)]
    #[case("evil.example:8080", "http://evil.example:8080", false)]
    #[case("localhost.evil.example", "", false)]
    #[case("10.0.0.1", "", false)]
    #[case("not a name", "", false)]
    #[case("localhost:8080", "http://evil.example", false)]
    #[case("localhost:8080", "http://localhost:3000", false)]
    #[case("localhost:8080", "null", false)]
    fn on_loopback_others_are_kept_out(#[case] host: &str, #[case] origin: &str, #[case] allowed: bool) {
        assert_eq!(allows(&guard("127.0.0.1", &[]), host, origin), allowed);
    }

    #[test]
    fn elsewhere_any_name_will_do_and_origins_are_asked_for() {
        let guard = guard("0.0.0.0", &[]);
        assert!(allows(&guard, "any.example", "") && allows(&guard, "any.example", "https://any.example"));
        assert!(!allows(&guard, "any.example", "https://other.example"));
    }

    #[test]
    fn allowed_origins_may_ask_and_lead_here() {
        let some = guard("127.0.0.1", &["https://Chat.example/", "http://localhost:3000"]);
        assert!(allows(&some, "localhost", "https://chat.example") && allows(&some, "chat.example", ""));
        assert!(allows(&some, "localhost", "http://localhost:3000"));
        assert!(!allows(&some, "localhost", "http://chat.example") && !allows(&some, "other.example", ""));
        let any = guard("127.0.0.1", &["*"]);
        assert!(allows(&any, "other.example", "null"));
        assert!(some.cors().is_some() && any.cors().is_some() && guard("127.0.0.1", &[]).cors().is_none());
    }

    #[rstest]
    #[case("chat.example")]
    #[case("://chat.example")]
    #[case("https://")]
    #[case("https://chat.example/page")]
    #[case("https://me@chat.example")]
    fn an_origin_is_whole(#[case] text: &str) {
        assert!(text.parse::<AllowedOrigin>().is_err());
    }
}
