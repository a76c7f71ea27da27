use std::fmt;

use serde::Serialize;

use crate::error::Error;

/// One thing that was looked at, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Whether all is well.
    pub mark: Mark,
    /// What was looked at, such as `RAM` or `cuda:0`.
    pub subject: String,
    /// What there is.
    pub found: String,
    /// The next step to take, where there is one.
    pub next: Option<String>,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Models run, but not as well as they could.
    Note,
    /// Something that this build needs is not there.
    Missing,
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self { mark: Mark::Ok, subject: subject.into(), found: found.into(), next: None }
    }

    pub(super) fn note(subject: &str, found: impl Into<String>) -> Self {
        Self { mark: Mark::Note, ..Self::ok(subject, found) }
    }

    /// What is missing as an error says it: what is wrong, a semicolon, the next step.
    pub(super) fn missing(subject: &str, error: &Error) -> Self {
        let text = error.to_string();
        let (found, next) = text.rsplit_once("; ").map_or((&text[..], None), |(found, next)| (found, Some(next)));
        Self { mark: Mark::Missing, next: next.map(str::to_owned), ..Self::ok(subject, found) }
    }

    pub(super) fn next(self, step: impl Into<String>) -> Self {
        Self { next: Some(step.into()), ..self }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Missing => "missing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_split_into_what_is_missing_and_the_next_step() {
        let finding = Finding::missing("libnvrtc", &Error::NoCuda { what: "libnvrtc", next: "install it" });
        assert_eq!((&finding.found[..], finding.next.as_deref()), ("libnvrtc was not found", Some("install it")));
        let finding = Finding::missing("checkpoint", &Error::Header { path: "x".into(), reason: "odd; short".into() });
        assert_eq!(finding.found, "x: broken safetensors header: odd; short");
    }
}
