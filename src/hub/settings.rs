use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::{HubToken, PullEvent};

/// The Hugging Face hub, or one that speaks as it does, and the cache of what was downloaded from it.
///
/// The cache is that of Python's `huggingface_hub`: each finds what the other has downloaded.
#[derive(Clone)]
#[must_use]
pub struct Hub {
    pub(super) endpoint: String,
    pub(super) cache_dir: PathBuf,
    pub(super) token: Option<HubToken>,
    pub(super) offline: bool,
    pub(super) tries: u32,
    pub(super) at_once: usize,
    listener: Option<Arc<Listener>>,
}

/// Who is told what happens.
type Listener = dyn Fn(PullEvent<'_>) + Send + Sync;

impl Hub {
    /// The hub of this environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH` and `HF_HUB_OFFLINE` mean what they mean to `huggingface_hub`.
    pub fn from_env() -> Self {
        Self::new(&Environment::of_process())
    }

    pub(super) fn new(environment: &Environment) -> Self {
        Self {
            endpoint: environment.endpoint(),
            cache_dir: environment.cache_dir(),
            token: environment.token(),
            offline: environment.is_offline(),
            tries: 8,
            at_once: 4,
            listener: None,
        }
    }

    /// The address of the hub.
    pub fn endpoint(mut self, url: &str) -> Self {
        self.endpoint = url.trim_end_matches('/').to_owned();
        self
    }

    /// The directory that keeps what was downloaded.
    pub fn cache_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.cache_dir = dir.as_ref().to_owned();
        self
    }

    /// Where what was downloaded is kept.
    pub fn cache(&self) -> &Path {
        &self.cache_dir
    }

    /// The token for models that not everybody may have; an empty one is none.
    pub fn token(mut self, token: impl Into<HubToken>) -> Self {
        self.token = Some(token.into()).filter(|token| !token.is_empty());
        self
    }

    /// Whether only the cache is asked, and no request made.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// How often a connection may fail in a row without a byte of progress, 8 by default; while the hub is asked what it
    /// has, 3 times at most where nobody answers at its address.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// How many files are downloaded at once, 4 by default.
    pub fn files_at_once(mut self, files: usize) -> Self {
        self.at_once = files.max(1);
        self
    }

    /// Who is told how a download goes; called by the threads that download.
    pub fn on_event(mut self, listener: impl Fn(PullEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    pub(super) fn tell(&self, event: PullEvent<'_>) {
        if !matches!(event, PullEvent::Arrived { .. }) {
            tracing::debug!("{event:?}");
        }
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}
