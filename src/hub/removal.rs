use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::cache::RepoCache;
use super::cached::{entries, files, revisions};
use super::{Hub, RepoId};
use crate::error::{AtPath, Error, Result};

/// What would be removed from the cache: a model with all that belongs to it, or one commit of it.
#[derive(Debug)]
#[must_use = "nothing is removed yet"]
pub struct Removal {
    bytes: u64,
    paths: Vec<PathBuf>,
}

impl Hub {
    /// What is in the cache of `model`, of all revisions if none is given; removes nothing yet.
    pub fn removal(&self, model: &RepoId) -> Result<Removal> {
        let cache = RepoCache::new(&self.cache_dir, model);
        let not_cached = || Error::NotCached { model: model.to_string(), dir: self.cache_dir.clone() };
        let all = || Removal::of(vec![cache.root.clone(), cache.locks.clone()]);
        if !cache.root.is_dir() {
            return Err(not_cached());
        }
        if model.given_revision().is_none() {
            return all();
        }
        let commit = cache.commit().ok_or_else(not_cached)?;
        let snapshot = cache.snapshot(&commit);
        if !snapshot.is_dir() {
            return Err(not_cached());
        }
        let others = entries(&cache.root.join("snapshots"))?.into_iter().filter(|other| *other != snapshot);
        let others = others.map(|other| blobs(&cache.root, &other)).collect::<Result<Vec<_>>>()?;
        if others.is_empty() {
            return all();
        }
        let shared: HashSet<PathBuf> = others.into_iter().flatten().collect();
        let own = blobs(&cache.root, &snapshot)?.into_iter().filter(|blob| !shared.contains(blob));
        let names = revisions(&cache.root, &commit)?.into_iter().map(|(_, path)| path);
        Removal::of([snapshot.clone()].into_iter().chain(names).chain(own).collect())
    }
}

impl Removal {
    fn of(paths: Vec<PathBuf>) -> Result<Self> {
        let all = paths.iter().map(|path| if path.is_dir() { files(path) } else { Ok(vec![path.clone()]) });
        let all = all.collect::<Result<Vec<_>>>()?;
        let len =
            |path: &PathBuf| fs::symlink_metadata(path).map_or(0, |file| if file.is_file() { file.len() } else { 0 });
        Ok(Self { bytes: all.iter().flatten().map(len).sum(), paths })
    }

    /// The bytes that will be free.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Removes it.
    pub fn remove(self) -> Result<()> {
        for path in self.paths {
            let result = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match result {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).at(path),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The files that the links of a commit lead to, which may be links themselves to what several models share.
fn blobs(root: &Path, snapshot: &Path) -> Result<HashSet<PathBuf>> {
    let blob = |file: PathBuf| Some(root.join("blobs").join(fs::read_link(file).ok()?.file_name()?));
    Ok(files(snapshot)?.into_iter().filter_map(blob).collect())
}
