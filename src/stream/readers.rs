use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::HostSlot;
use super::order::Clock;
use crate::checkpoint::Checkpoint;
use crate::error::{AtPath, Error, Result};
use crate::io::Piece;
use crate::unit::Read;

/// Where the bytes of units come from.
pub(crate) trait Shards: Send + Sync {
    /// Fills `buffer` with whole blocks of a shard, up to its end; waits for none that are still coming once `stop` is set.
    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8], stop: &AtomicBool) -> Result<()>;
}

impl Shards for Checkpoint {
    /// Also makes sure that the file has not changed.
    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8], stop: &AtomicBool) -> Result<()> {
        let file = &self.shards()[shard];
        file.read_blocks(&|| stop.load(Ordering::SeqCst), offset, buffer)?;
        file.check_unchanged()
    }
}

/// Threads that read, chunk by chunk and in the order of asking; they stand as long as the engine, across the borders
/// of units and passes, so that reading never pauses.
#[derive(Debug)]
pub(crate) struct Readers {
    /// Taken before the threads are joined.
    jobs: Option<Sender<Job>>,
    /// Until when reading has been counted, by whichever stream.
    clock: Clock,
    threads: Vec<JoinHandle<()>>,
}

/// One chunk to read.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) unit: usize,
    pub(crate) read: Read,
    pub(crate) piece: Piece<HostSlot>,
    /// Who waits for it.
    pub(crate) done: Sender<Result<Filled>>,
    /// Set when nobody wants it any more.
    pub(crate) stop: Arc<AtomicBool>,
    /// Dropped with the job and its memory.
    pub(crate) _open: Sender<Infallible>,
}

/// A chunk that has been read, and when.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) read: Read,
    pub(crate) piece: Piece<HostSlot>,
    pub(crate) time: (Instant, Instant),
}

impl Readers {
    /// Readers at a time: at least what keeps an NVMe queue busy, at most what a memory file system still gains from.
    pub(crate) fn number() -> usize {
        std::thread::available_parallelism().map_or(4, |cores| cores.get().clamp(4, 16))
    }

    pub(crate) fn start(shards: Arc<dyn Shards>, number: usize) -> Result<Self> {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let thread = |i: usize| {
            let (shards, queue) = (shards.clone(), queue.clone());
            let name = format!("leveret-read-{i}");
            std::thread::Builder::new().name(name.clone()).spawn(move || work(&*shards, &queue)).at(name)
        };
        let threads = (0..number).map(thread).collect::<Result<_>>()?;
        Ok(Self { jobs: Some(jobs), clock: Clock::default(), threads })
    }

    /// A way to ask for reads.
    pub(crate) fn jobs(&self) -> Sender<Job> {
        self.jobs.clone().expect("present until the readers are dropped")
    }

    /// What the time of reading is counted by.
    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }
}

fn work(shards: &dyn Shards, queue: &Mutex<Receiver<Job>>) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(Job { unit, read, mut piece, done, stop, _open }) = next() {
        if stop.load(Ordering::SeqCst) {
            continue;
        }
        let _span = tracing::trace_span!("read", unit, bytes = piece.len()).entered();
        let started = Instant::now();
        let result = shards.read(read.shard, read.offset, &mut piece, &stop);
        // Who no longer waits needs no answer.
        let _ = done.send(result.map(|()| Filled { read, piece, time: (started, Instant::now()) }));
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that died has left its job unanswered, which whoever waited for it has found out.
            let _ = thread.join();
        }
    }
}

/// The next chunk of those that were asked for; an error if its reader has died.
pub(crate) fn read_chunk(filled: &Receiver<Result<Filled>>) -> Result<Filled> {
    filled.recv().map_err(|_| Error::ReaderStopped)?
}

/// How often whoever waits for bytes looks whether it still wants them.
const LOOK: Duration = Duration::from_millis(50);

/// What comes next, unless `is_over` before; an error if there is nobody from whom it could come.
pub(super) fn receive<T>(from: &Receiver<Result<T>>, is_over: &dyn Fn() -> bool) -> Result<T> {
    loop {
        match from.recv_timeout(LOOK) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(Error::ReaderStopped),
            Err(RecvTimeoutError::Timeout) if is_over() => return Err(Error::Cancelled),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
