use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo};

use super::RepoId;
use super::blob::Blob;
use super::listing::{INDEX, RemoteFile, SINGLE, shards};
use crate::error::{AtPath, Result};
use crate::io::read_text;

/// Where the cache keeps one model: bytes by their names, and the files of each commit as links to them.
#[derive(Debug)]
pub(super) struct RepoCache {
    /// `models--org--name`.
    pub(super) root: PathBuf,
    /// Files that say who is writing what.
    pub(super) locks: PathBuf,
    repo: CacheRepo,
    id: RepoId,
}

impl RepoCache {
    pub(super) fn new(cache_dir: &Path, id: &RepoId) -> Self {
        let repo = id.repo();
        let folder = repo.folder_name();
        Self {
            root: cache_dir.join(&folder),
            locks: cache_dir.join(".locks").join(folder),
            repo: Cache::new(cache_dir.to_owned()).repo(repo),
            id: id.clone(),
        }
    }

    /// The commit that the revision was when it was last asked for.
    pub(super) fn commit(&self) -> Option<String> {
        if self.id.is_commit() {
            return Some(self.id.revision().to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(self.id.revision())).ok()?;
        Some(commit.trim().to_owned())
    }

    /// Takes note that the revision is `commit`.
    pub(super) fn set_commit(&self, commit: &str) -> Result<()> {
        match self.id.is_commit() || self.commit().as_deref() == Some(commit) {
            true => Ok(()),
            false => self.repo.create_ref(commit).at(&self.root),
        }
    }

    /// The directory of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// The place of a file.
    pub(super) fn blob(&self, file: &RemoteFile, commit: &str, url: String) -> Blob {
        Blob {
            name: file.name.clone(),
            url,
            bytes: file.bytes,
            etag: file.etag.clone(),
            path: self.root.join("blobs").join(&file.etag),
            pointer: self.snapshot(commit).join(&file.name),
            lock: self.locks.join(format!("{}.lock", file.etag)),
        }
    }

    /// The directory of the revision's files, if no file is missing that a model needs.
    pub(super) fn whole_snapshot(&self) -> Option<PathBuf> {
        let dir = self.snapshot(&self.commit()?);
        missing(&dir).is_empty().then_some(dir)
    }
}

/// The files that a model needs and that are not in `dir`; what else the hub has of it cannot be told from here.
pub(super) fn missing(dir: &Path) -> Vec<String> {
    let mut files = vec!["config.json".to_owned()];
    if !dir.join(SINGLE).exists() {
        let shards = read_text(&dir.join(INDEX)).ok().and_then(|index| shards(&index).ok());
        files.extend(shards.map_or_else(|| vec!["weights".to_owned()], |shards| shards.into_iter().collect()));
    }
    files.retain(|file| !dir.join(file).exists());
    files
}
