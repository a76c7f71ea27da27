use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arrival::Arrival;
use super::blob::Blob;
use super::cache::{RepoCache, missing};
use super::client::Client;
use super::coming_file::ComingFile;
use super::listing::{INDEX, Listing};
use super::{Hub, PullEvent, RepoId, heads};
use crate::error::{AtPath, Error, Result};
use crate::io::{Coming, ComingFiles, Place, read_text};

impl Hub {
    /// The directory of `model`: itself if there is one, else what the hub has under that name, downloaded if need be.
    ///
    /// What the cache has whole is taken when the hub cannot be reached.
    pub fn dir(&self, model: impl AsRef<Path>) -> Result<PathBuf> {
        let Some(id) = RepoId::of_path(model.as_ref()) else { return Ok(model.as_ref().to_owned()) };
        match self.open(&id)? {
            Found::Whole(dir) => Ok(dir),
            Found::Arriving(dir, weights) => weights.wait().map(|()| dir),
        }
    }

    /// Downloads what is missing of a model; answers with its directory.
    ///
    /// Of a model only what is needed: config, tokenizer, chat templates and weights in safetensors files.
    pub fn pull(&self, model: &RepoId) -> Result<PathBuf> {
        if self.offline {
            return self.offline_dir(model);
        }
        let (dir, weights) = self.begin(model, self)?;
        weights.wait().map(|()| dir)
    }

    /// The same as `dir`, without waiting for weights: of those, headers are there.
    pub(crate) fn place(&self, model: &Path) -> Result<Place> {
        let Some(id) = RepoId::of_path(model) else { return Ok(Place { dir: model.to_owned(), ..Place::default() }) };
        match self.open(&id)? {
            Found::Whole(dir) => Ok(Place { dir, ..Place::default() }),
            Found::Arriving(dir, weights) => Ok(Place { dir, coming: self.coming(&id, weights)? }),
        }
    }

    fn open(&self, id: &RepoId) -> Result<Found> {
        if self.offline {
            return self.offline_dir(id).map(Found::Whole);
        }
        let whole = RepoCache::new(&self.cache_dir, id).whole_snapshot();
        match whole {
            Some(dir) if id.is_commit() => Ok(Found::Whole(dir)),
            Some(dir) => {
                // Whoever has all of it and no connection does not want to wait for one.
                let newer = self.begin(id, &self.clone().tries(1));
                Ok(match newer {
                    Ok((dir, weights)) => Found::Arriving(dir, weights),
                    Err(error) => {
                        self.tell(PullEvent::FromCache { model: id.name(), reason: &error.to_string() });
                        Found::Whole(dir)
                    }
                })
            }
            None => match self.begin(id, self) {
                Ok((dir, weights)) => Ok(Found::Arriving(dir, weights)),
                // It may be a directory that was meant.
                Err(Error::Connection { url, reason }) => {
                    Err(Error::NoAnswer { model: id.to_string(), reason: format!("{url}: {reason}") })
                }
                Err(error) => Err(error),
            },
        }
    }

    /// What the cache has, without a request.
    fn offline_dir(&self, id: &RepoId) -> Result<PathBuf> {
        let cache = RepoCache::new(&self.cache_dir, id);
        let dir = cache.commit().map(|commit| cache.snapshot(&commit));
        let missing = dir.as_deref().map_or_else(|| vec!["all of it".to_owned()], missing);
        match dir {
            Some(dir) if missing.is_empty() => Ok(dir),
            _ => Err(Error::Offline { model: id.to_string(), dir: self.cache_dir.clone(), missing }),
        }
    }

    /// Asks what there is, as `asking` says, and downloads all but the weights.
    fn begin(&self, id: &RepoId, asking: &Self) -> Result<(PathBuf, Arrival)> {
        let listing = Listing::ask(self, &Client::new(asking), id)?;
        let client = Client::new(self);
        let arrival = |files: &[_]| Arrival::new(self, &client, id, &listing.commit, files);
        let small = listing.small_files();
        if small.iter().all(|file| file.name != INDEX) {
            // Before anything is downloaded of a model without weights.
            listing.weights(id, None)?;
        }
        arrival(&small)?.wait()?;
        let dir = RepoCache::new(&self.cache_dir, id).snapshot(&listing.commit);
        let path = dir.join(INDEX);
        let index = if path.exists() { Some(read_text(&path).at(&path)?) } else { None };
        Ok((dir, arrival(&listing.weights(id, index.as_deref())?)?))
    }

    /// The shards that are not whole, with their headers.
    fn coming(&self, id: &RepoId, weights: Arrival) -> Result<ComingFiles> {
        let weights = Arc::new(weights);
        let absent = weights.files().enumerate().filter(|(_, (_, whole))| !whole);
        let (indices, blobs): (Vec<usize>, Vec<&Blob>) = absent.map(|(index, (blob, _))| (index, blob)).unzip();
        let heads = heads::fetch(&Client::new(self), &blobs, self.at_once);
        let heads = heads.map_err(|(blob, failure)| failure.explain(self, id, Some(&blob.name)))?;
        let file = |((index, blob), head): ((usize, &&Blob), _)| {
            let file = ComingFile { arrival: weights.clone(), index, bytes: blob.bytes, head };
            (blob.name.clone(), Arc::new(file) as Arc<dyn Coming>)
        };
        Ok(indices.into_iter().zip(&blobs).zip(heads).map(file).collect())
    }
}

/// What is there of a model.
enum Found {
    Whole(PathBuf),
    Arriving(PathBuf, Arrival),
}
