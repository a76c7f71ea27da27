use std::fmt;
use std::path::Path;
use std::str::FromStr;

use hf_hub::{Repo, RepoType};

use crate::error::{Error, Result};

/// A model's name on the hub, and which state of it: `org/name` or `org/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoId {
    name: String,
    revision: Option<String>,
}

impl RepoId {
    /// What a user means who gives `model` where a directory or a name is taken: None if it must be a directory.
    pub(super) fn of_path(model: &Path) -> Option<Self> {
        if model.exists() {
            return None;
        }
        model.to_str()?.parse().ok()
    }

    /// Organisation and name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` where none was given.
    pub fn revision(&self) -> &str {
        self.given_revision().unwrap_or("main")
    }

    /// The revision, if one was given.
    pub(super) fn given_revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Whether the revision is a commit, which never changes.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(self.revision())
    }

    /// The same in the words of the cache.
    pub(super) fn repo(&self) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, self.revision().to_owned())
    }
}

/// Whether `text` is the full name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether `part` can be a part of a path without leading elsewhere.
pub(super) fn is_plain(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_plain)
}

impl FromStr for RepoId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        let named = name.split_once('/').is_some_and(|(org, model)| is_plain(org) && is_plain(model));
        let revised = revision.is_none_or(|revision| revision.split('/').all(is_plain));
        match named && revised && !name.contains("--") && !name.contains("..") {
            true => Ok(Self { name: name.to_owned(), revision: revision.map(str::to_owned) }),
            false => Err(Error::Name {
                what: "model",
                found: text.to_owned(),
                expected: "org/name or org/name@revision".to_owned(),
            }),
        }
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "main")]
    #[case("Qwen/Qwen3-8B@refs/pr/1", "Qwen/Qwen3-8B", "refs/pr/1")]
    #[case("a/b.c_d@v1.0", "a/b.c_d", "v1.0")]
    fn names_are_read(#[case] text: &str, #[case] name: &str, #[case] revision: &str) {
        let id: RepoId = text.parse().unwrap();
        assert_eq!((id.name(), id.revision(), id.to_string()), (name, revision, text.to_owned()));
    }

    #[rstest]
    #[case("")]
    #[case("demo")]
    #[case("/models/demo")]
    #[case("./demo")]
    #[case("./models/demo")]
    #[case("../demo")]
    #[case("a/b/c")]
    #[case("a/..")]
    #[case("a--b/c")]
    #[case("a/b@")]
    #[case("a/b@../x")]
    #[case("a/b c")]
    fn paths_are_no_names(#[case] text: &str) {
        assert!(text.parse::<RepoId>().is_err());
    }
}
