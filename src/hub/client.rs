use std::io::ErrorKind;
use std::ops::Range;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::PullEvent;
use super::failure::Failure;
use super::settings::Hub;
use crate::error::Error;

/// Makes requests: follows redirects, gives the token to the hub itself and to nobody else.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: Agent,
    /// Scheme, host and port of the hub.
    origin: Option<Origin>,
    hub: Hub,
}

/// An answer that brings bytes.
pub(super) struct Reply {
    /// What the hub called the bytes.
    pub(super) etag: Option<String>,
    pub(super) response: Response<Body>,
}

type Origin = (String, String);

/// A connection, the head of an answer, and the time between two reads of its body are waited for so long.
const PATIENCE: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 10;

impl Client {
    pub(super) fn new(hub: &Hub) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("leveret/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        let origin = hub.endpoint.parse().ok().and_then(|uri| origin(&uri));
        Self { agent: config.into(), origin, hub: hub.clone() }
    }

    /// Asks for `url`, from byte `from` on or for a part of it.
    pub(super) fn get(&self, url: &str, range: Option<Bytes>) -> Result<Reply, Failure> {
        let mut url = url.to_owned();
        let mut etag = None;
        for _ in 0..REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| astray(&url, "is no address"))?;
            let here = origin(&uri).ok_or_else(|| astray(&url, "is no address; expected https://…"))?;
            let is_hub = self.origin == Some(here);
            let mut request = self.agent.get(&url);
            if let Some(token) = self.hub.token.as_ref().filter(|_| is_hub) {
                request = request.header("Authorization", token.bearer().map_err(Failure::Final)?);
            }
            if let Some(range) = &range {
                request = request.header("Range", range.header());
            }
            let response = request.call().map_err(|error| unanswered(&url, &error))?;
            // The hub's own word for large files, which their storage does not have.
            let linked = text(response.headers(), "x-linked-etag");
            etag = etag.or_else(|| linked.map(plain));
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                    let own = text(response.headers(), "etag").filter(|_| is_hub);
                    return Ok(Reply { etag: etag.or_else(|| own.map(plain)), response });
                }
                status if status.is_redirection() => {
                    let location = text(response.headers(), "location");
                    let next = location.and_then(|location| join(&uri, location));
                    url = next.ok_or_else(|| astray(&url, "leads to no address"))?;
                }
                status => {
                    let code = text(response.headers(), "x-error-code").unwrap_or_default().to_owned();
                    return Err(Failure::Refused { status: status.as_u16(), code, url: without_query(&url) });
                }
            }
        }
        Err(astray(&url, "leads in circles"))
    }

    /// The body of an answer that is short enough for memory; asked for again if it does not come.
    pub(super) fn bytes(&self, url: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, Failure> {
        let longest = range.as_ref().map_or(LONGEST, |range| range.end - range.start);
        let once = || -> Result<_, Failure> {
            let mut reply = self.get(url, range.clone().map(Bytes::Part))?;
            let body = reply.response.body_mut().with_config().limit(LONGEST).reader();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(body, longest), &mut bytes)
                .map_err(|error| lost(url, &error))?;
            Ok(bytes)
        };
        let mut failures = 0;
        loop {
            match once() {
                Err(failure) if failure.is_passing() && failures + 1 < self.tries_after(&failure) => {
                    self.hub.tell(PullEvent::AsksAgain { url: &without_query(url), reason: &failure.reason() });
                    self.wait(failures);
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    /// How often a request may fail in a row.
    pub(super) fn tries(&self) -> u32 {
        self.hub.tries
    }

    /// The same of a question, which may have been sent to where nobody is.
    fn tries_after(&self, failure: &Failure) -> u32 {
        match failure {
            Failure::Unreachable { .. } => self.tries().min(3),
            _ => self.tries(),
        }
    }

    /// Waits before the next of several tries, longer each time.
    pub(super) fn wait(&self, failures: u32) {
        std::thread::sleep(Duration::from_millis(200 << failures.min(6)));
    }
}

/// More than any answer has that is kept in memory.
const LONGEST: u64 = 256 << 20;

/// Which bytes of a file are asked for.
pub(super) enum Bytes {
    From(u64),
    Part(Range<u64>),
}

impl Bytes {
    fn header(&self) -> String {
        match self {
            Self::From(start) => format!("bytes={start}-"),
            Self::Part(range) => format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
        }
    }
}

/// Nothing came, or no more.
pub(super) fn lost(url: &str, reason: &impl ToString) -> Failure {
    Failure::Lost { url: without_query(url), reason: reason.to_string() }
}

/// No answer came.
fn unanswered(url: &str, error: &ureq::Error) -> Failure {
    let is_nobody_there = match error {
        ureq::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        _ => false,
    };
    match is_nobody_there {
        true => Failure::Unreachable { url: without_query(url), reason: error.to_string() },
        false => lost(url, error),
    }
}

/// An address that leads nowhere, however often it is tried.
fn astray(url: &str, reason: &str) -> Failure {
    Failure::Final(Error::Connection { url: without_query(url), reason: reason.to_owned() })
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The name in an `ETag`.
fn plain(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn origin(uri: &Uri) -> Option<Origin> {
    Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_owned()))
}

/// Where a redirect leads, which may be said relative to where it stood.
fn join(uri: &Uri, location: &str) -> Option<String> {
    let (scheme, authority) = origin(uri)?;
    Some(match location {
        _ if location.starts_with("http://") || location.starts_with("https://") => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => return None,
    })
}

/// An address fit to be shown: what storage hosts sign stands in the query.
pub(super) fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

/// Text as a part of an address.
pub(super) fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/b/c?d", Some("http://a:1/b/c?d"))]
    #[case("//b/c", Some("http://b/c"))]
    #[case("https://b/c", Some("https://b/c"))]
    #[case("ftp://b/c", None)]
    fn redirects_lead_on(#[case] location: &str, #[case] url: Option<&str>) {
        let uri = "http://a:1/x/y".parse().unwrap();
        assert_eq!(join(&uri, location).as_deref(), url);
    }

    #[test]
    fn revisions_are_one_part_of_an_address() {
        assert_eq!(encode("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
