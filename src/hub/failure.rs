use super::RepoId;
use super::settings::Hub;
use crate::error::Error;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The hub said no.
    Refused {
        status: u16,
        /// Its name for the reason, if it gave one.
        code: String,
        url: String,
    },
    /// Nothing came, or no more: it may be tried again.
    Lost { url: String, reason: String },
    /// Nobody was there to be asked, which is known at once: trying again seldom helps.
    Unreachable { url: String, reason: String },
    /// Trying again would change nothing.
    Final(Error),
}

impl Failure {
    /// Whether the same request may bring something later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Lost { .. } | Self::Unreachable { .. } => true,
            Self::Final(_) => false,
        }
    }

    /// In a word, for whoever watches.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Refused { status, .. } => format!("the hub answers {status}"),
            Self::Lost { reason, .. } | Self::Unreachable { reason, .. } => reason.clone(),
            Self::Final(error) => error.to_string(),
        }
    }

    /// The error of a request for `file` of a model, or for the model itself.
    pub(super) fn explain(self, hub: &Hub, id: &RepoId, file: Option<&str>) -> Error {
        let page = format!("{}/{}", hub.endpoint, id.name());
        let model = id.name().to_owned();
        let (status, code, url) = match self {
            Self::Final(error) => return error,
            Self::Lost { url, reason } | Self::Unreachable { url, reason } => return Error::Connection { url, reason },
            Self::Refused { status, code, url } => (status, code, url),
        };
        match (status, &*code) {
            (404, "RevisionNotFound") => Error::NoRevision { model, revision: id.revision().to_owned(), page },
            (404 | 401, "RepoNotFound") => Error::NoModel { model, hub: hub.endpoint.clone() },
            (404, _) if file.is_some() => {
                let revision = id.revision().to_owned();
                Error::NoFile { model, revision, file: file.unwrap_or_default().to_owned(), page }
            }
            (404, _) => Error::NoModel { model, hub: hub.endpoint.clone() },
            (401 | 403, _) => {
                let token = if hub.token.is_some() { "another token" } else { "a token" };
                Error::NoAccess { model, status, page, token }
            }
            _ => Error::Connection { url, reason: format!("the hub answers {status}") },
        }
    }
}
