use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Hub;
use super::cache::missing;
use crate::error::{AtPath, Result};

/// A model in the cache, at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CachedModel {
    /// Its name on the hub.
    pub model: String,
    /// The commit.
    pub commit: String,
    /// The branches and tags that are this commit.
    pub revisions: Vec<String>,
    /// Bytes of its files; several commits may share some.
    pub bytes: u64,
    /// When one of its files was read last, in seconds since 1970.
    pub last_used: u64,
    /// What a model needs and is not there.
    pub missing: Vec<String>,
    /// Bytes of files that are not there wholly.
    pub partial_bytes: u64,
}

impl Hub {
    /// What the cache has, by name; nothing is asked of the hub.
    pub fn cached(&self) -> Result<Vec<CachedModel>> {
        let mut models = Vec::new();
        for root in entries(&self.cache_dir)? {
            let name = root.file_name().and_then(|name| name.to_str()?.strip_prefix("models--"));
            let Some(name) = name.map(|name| name.replace("--", "/")) else { continue };
            for snapshot in entries(&root.join("snapshots"))? {
                models.push(describe(&name, &root, &snapshot)?);
            }
        }
        models.sort_by(|a, b| (&a.model, b.last_used).cmp(&(&b.model, a.last_used)));
        Ok(models)
    }
}

fn describe(name: &str, root: &Path, snapshot: &Path) -> Result<CachedModel> {
    let commit = snapshot.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let metadata: Vec<_> = files(snapshot)?.iter().filter_map(|file| fs::metadata(file).ok()).collect();
    let used = metadata.iter().filter_map(|file| file.accessed().ok().max(file.modified().ok())).max();
    let missing = missing(snapshot);
    let partial = files(&root.join("blobs"))?.into_iter().filter(|file| file.extension().is_some());
    let partial_bytes =
        if missing.is_empty() { 0 } else { partial.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum() };
    Ok(CachedModel {
        model: name.to_owned(),
        revisions: revisions(root, &commit)?.into_iter().map(|(name, _)| name).collect(),
        commit,
        bytes: metadata.iter().map(fs::Metadata::len).sum(),
        last_used: used.map_or(0, seconds),
        missing,
        partial_bytes,
    })
}

/// The names of a commit, and the files that say so.
pub(super) fn revisions(root: &Path, commit: &str) -> Result<Vec<(String, PathBuf)>> {
    let refs = root.join("refs");
    let is_this = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.trim() == commit);
    let name = |file: PathBuf| Some((file.strip_prefix(&refs).ok()?.to_str()?.to_owned(), file.clone()));
    Ok(files(&refs)?.into_iter().filter(is_this).filter_map(name).collect())
}

/// All files in a directory and those in it, in order; links are not followed.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(dir)? {
        match fs::symlink_metadata(&path).is_ok_and(|file| file.is_dir()) {
            true => files.extend(self::files(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}

/// What is in a directory, in order; nothing where there is none.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let path = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.path());
    let mut paths =
        fs::read_dir(dir).and_then(|entries| entries.map(path).collect::<std::io::Result<Vec<_>>>()).at(dir)?;
    paths.sort_unstable();
    Ok(paths)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
