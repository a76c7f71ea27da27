use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::blob::{Blob, Watch};
use super::cache::{RepoCache, missing};
use super::client::{Client, encode};
use super::listing::RemoteFile;
use super::{Hub, PullEvent, RepoId};
use crate::disk;
use crate::error::{AtPath, Error, Result};

/// Files that threads bring from the hub, once somebody waits for them; dropped, it ends them.
///
/// A file comes from its first byte to its last, and next comes the one that is waited for: so the order of units is that of
/// the download.
#[derive(Debug)]
pub(super) struct Arrival {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hub: Hub,
    client: Client,
    id: RepoId,
    cache: RepoCache,
    commit: String,
    blobs: Vec<Blob>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    started: bool,
    /// Nobody waits any more, or waiting is of no use.
    over: bool,
    /// Which are still to be begun, in this order …
    queue: VecDeque<usize>,
    /// … and how many of them, at the front, are waited for.
    wanted: usize,
    stages: Vec<Stage>,
    error: Option<Arc<Error>>,
}

/// How often it is asked whether somebody still waits.
const LOOK: Duration = Duration::from_millis(50);

/// How far a file has come.
#[derive(Debug, Clone)]
enum Stage {
    Absent,
    /// So many of its first bytes are in this file.
    Growing(Arc<File>, u64),
    Whole,
}

impl Arrival {
    /// Takes note of which files are there already; begins nothing.
    pub(super) fn new(hub: &Hub, client: &Client, id: &RepoId, commit: &str, files: &[RemoteFile]) -> Result<Self> {
        let cache = RepoCache::new(&hub.cache_dir, id);
        let blob = |file: &RemoteFile| {
            let parts: Vec<_> = file.name.split('/').map(encode).collect();
            let url = format!("{}/{}/resolve/{commit}/{}", hub.endpoint, id.name(), parts.join("/"));
            cache.blob(file, commit, url)
        };
        let blobs: Vec<Blob> = files.iter().map(blob).collect();
        let stage = |blob: &Blob| match blob.is_whole() {
            true => blob.link().map(|()| Stage::Whole),
            false => Ok(Stage::Absent),
        };
        let stages = blobs.iter().map(stage).collect::<Result<Vec<_>>>()?;
        let queue = (0..blobs.len()).filter(|index| matches!(stages[*index], Stage::Absent)).collect();
        let state = State { started: false, over: false, queue, wanted: 0, stages, error: None };
        let shared = Shared {
            hub: hub.clone(),
            client: client.clone(),
            id: id.clone(),
            cache,
            commit: commit.to_owned(),
            blobs,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        // Another revision may have brought all of it; a cache that cannot be written to serves nevertheless.
        let _ = shared.settle();
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The files, and whether each is whole.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Blob, bool)> {
        let stages = self.shared.lock().stages.clone();
        self.shared.blobs.iter().zip(stages).map(|(blob, stage)| (blob, matches!(stage, Stage::Whole)))
    }

    /// The name under which a file will be found.
    pub(super) fn path(&self, index: usize) -> &Path {
        &self.shared.blobs[index].pointer
    }

    pub(super) fn is_whole(&self, index: usize) -> bool {
        matches!(self.shared.lock().stages[index], Stage::Whole)
    }

    /// Waits until all files are whole.
    pub(super) fn wait(&self) -> Result<()> {
        let state = self.start(self.shared.lock())?;
        let is_busy =
            |state: &mut State| !state.over && state.stages.iter().any(|stage| !matches!(stage, Stage::Whole));
        let mut state = self.shared.changed.wait_while(state, is_busy).unwrap_or_else(PoisonError::into_inner);
        match state.error.take() {
            Some(error) => Err(Arc::into_inner(error).unwrap_or(Error::ReaderStopped)),
            None if state.over => Err(Error::ReaderStopped),
            None => self.shared.settle(),
        }
    }

    /// Waits until the first `end` bytes of a file are there, which comes next if it has not begun; a file that has them.
    /// Ends early when `is_over`.
    pub(super) fn wait_for(&self, index: usize, end: u64, is_over: &dyn Fn() -> bool) -> Result<Arc<File>> {
        let blob = &self.shared.blobs[index];
        let mut state = self.start(self.shared.lock())?;
        loop {
            match &state.stages[index] {
                Stage::Whole => return File::open(&blob.pointer).at(&blob.pointer).map(Arc::new),
                Stage::Growing(file, there) if end <= *there => return Ok(file.clone()),
                _ => {}
            }
            if let Some(error) = &state.error {
                return Err(Error::Coming { path: blob.pointer.clone(), error: error.clone() });
            }
            if is_over() {
                return Err(Error::Cancelled);
            }
            state.want(index);
            (state, _) = self.shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Starts the threads, unless they run or nothing is left to do.
    fn start<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>> {
        let Shared { hub, id, blobs, cache, commit, .. } = &*self.shared;
        if state.started || state.queue.is_empty() {
            return Ok(state);
        }
        let (mut bytes, mut there) = (0_u64, 0);
        for blob in state.queue.iter().map(|index| &blobs[*index]) {
            bytes = bytes.saturating_add(blob.bytes);
            there += blob.there();
        }
        disk::check_room(&hub.cache_dir, bytes - there)?;
        // From now on the cache says what is missing of this commit; another that is whole stays the revision's until
        // this one is.
        if cache.commit().is_none() {
            cache.set_commit(commit)?;
        }
        hub.tell(PullEvent::Starts { model: id.name(), files: state.queue.len(), bytes, there });
        for number in 0..hub.at_once.min(state.queue.len()) {
            let (shared, name) = (self.shared.clone(), format!("leveret-pull-{number}"));
            std::thread::Builder::new().name(name.clone()).spawn(move || shared.work()).at(name)?;
        }
        state.started = true;
        Ok(state)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Threads end by themselves at the next bytes; to wait for those could take long. Only a file of which all bytes
        // are there is given its name before.
        let mut state = self.shared.lock();
        state.over = true;
        let is_busy = |state: &mut State| {
            let all_there =
                |(stage, blob): (&Stage, &Blob)| matches!(stage, Stage::Growing(_, there) if *there == blob.bytes);
            state.error.is_none() && state.stages.iter().zip(&self.shared.blobs).any(all_there)
        };
        drop(self.shared.changed.wait_while(state, is_busy));
    }
}

impl State {
    /// Sees to it that a file is begun before all that nobody waits for.
    fn want(&mut self, index: usize) {
        if let Some(place) = self.queue.iter().position(|queued| *queued == index).filter(|place| *place >= self.wanted)
        {
            self.queue.remove(place);
            self.queue.insert(self.wanted, index);
            self.wanted += 1;
        }
    }

    fn next(&mut self) -> Option<usize> {
        self.wanted = self.wanted.saturating_sub(1);
        self.queue.pop_front()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes whoever waits for it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn work(&self) {
        let next = || {
            let mut state = self.lock();
            if state.over { None } else { state.next() }
        };
        while let Some(index) = next() {
            let blob = &self.blobs[index];
            let watched = Watched { shared: self, index };
            let result = blob.download(&self.client, &watched);
            match result.map_err(|failure| failure.explain(&self.hub, &self.id, Some(&blob.name))) {
                Ok(()) if blob.is_whole() => self.ended(index),
                Ok(()) => return,
                Err(error) => self.change(|state| {
                    state.stages[index] = Stage::Absent;
                    state.error.get_or_insert(Arc::new(error));
                    state.over = true;
                }),
            }
        }
    }

    fn ended(&self, index: usize) {
        self.hub.tell(PullEvent::FileEnds { file: &self.blobs[index].name });
        let mut last = false;
        self.change(|state| {
            state.stages[index] = Stage::Whole;
            last = state.stages.iter().all(|stage| matches!(stage, Stage::Whole));
        });
        if last {
            self.hub.tell(PullEvent::Ends);
            // Whoever streams has all bytes; that the cache could not take note of it costs a request next time.
            let _ = self.settle();
        }
    }

    /// The revision is this commit, once nothing is missing of it.
    fn settle(&self) -> Result<()> {
        match missing(&self.cache.snapshot(&self.commit)).is_empty() {
            true => self.cache.set_commit(&self.commit),
            false => Ok(()),
        }
    }
}

/// One file's download, as its thread tells it.
struct Watched<'a> {
    shared: &'a Shared,
    index: usize,
}

impl Watched<'_> {
    fn file(&self) -> &str {
        &self.shared.blobs[self.index].name
    }
}

impl Watch for Watched<'_> {
    fn is_over(&self) -> bool {
        self.shared.lock().over
    }

    fn starts(&self, file: File, there: u64) {
        let bytes = self.shared.blobs[self.index].bytes;
        self.shared.hub.tell(PullEvent::FileStarts { file: self.file(), bytes, there });
        self.shared.change(|state| state.stages[self.index] = Stage::Growing(Arc::new(file), there));
    }

    fn arrived(&self, bytes: u64) {
        self.shared.hub.tell(PullEvent::Arrived { file: self.file(), bytes });
        self.shared.change(|state| {
            if let Stage::Growing(_, there) = &mut state.stages[self.index] {
                *there += bytes;
            }
        });
    }

    fn retries(&self, reason: &str) {
        self.shared.hub.tell(PullEvent::Retries { file: self.file(), reason });
    }

    fn waits(&self) {
        self.shared.hub.tell(PullEvent::Waits { file: self.file() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_comes_next_in_the_order_of_waiting() {
        let queue = (0..5).collect();
        let mut state = State { started: true, over: false, queue, wanted: 0, stages: Vec::new(), error: None };
        [3, 4, 3].into_iter().for_each(|index| state.want(index));
        assert_eq!(state.next(), Some(3));
        state.want(2);
        state.want(3);
        assert_eq!(std::iter::from_fn(|| state.next()).collect::<Vec<_>>(), [4, 2, 0, 1]);
    }
}
