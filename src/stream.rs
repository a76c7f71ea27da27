//! Keeps the next units coming: rings of memory, threads that read and upload, and the order of units.

mod feed;
mod fetch;
mod join;
mod kept;
mod order;
mod readers;
mod slot;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod transfer;
mod upload;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;

use leveret_models::Backend;

pub(crate) use fetch::Fetch;
pub(crate) use kept::Kept;
pub(crate) use order::{Arrived, Clock, Order, Work};
pub(crate) use readers::{Job, Readers, read_chunk};
pub(crate) use slot::{DeviceRing, DeviceSlot, HostRing, HostSlot};
pub use transfer::Transfer;

use crate::error::{AtPath, Error, Result};
use crate::unit::Unit;
use crate::upload::{DeviceMemory, HostMemory, Shared};

/// What a stream brings, and by which way.
pub(crate) struct Source<B: Backend> {
    pub(crate) units: Arc<Vec<Unit>>,
    pub(crate) upload: Shared<B>,
    /// Whether tensors are made of host memory as it lies, so that what stays resident needs memory of its own.
    pub(crate) keeps_host_memory: bool,
}

/// The memory that a stream works in, made before it starts and never while it runs, but for units that stay.
pub(crate) struct Memory {
    /// What units are read into: whole units, or chunks of them for a device with memory of its own.
    pub(crate) host_ring: Vec<Box<dyn HostMemory>>,
    pub(crate) device_ring: Vec<DeviceMemory>,
    /// Device memory of the units that are to stay there.
    pub(crate) resident: HashMap<usize, DeviceMemory>,
    /// Units that stay in host memory.
    pub(crate) kept: Kept,
}

/// Brings units in a given order, ahead of their use: first some once, then others over and over, across the ends of
/// passes.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Taken before the threads are joined.
    arrivals: Option<Receiver<Result<Arrived>>>,
    /// Permission to read (sync) or to upload (prefetch) the next unit.
    requests: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    kept: Kept,
    threads: Vec<JoinHandle<()>>,
    /// Closed once no reader holds memory of this stream.
    open: Receiver<Infallible>,
}

impl Stream {
    /// Starts to bring `first`, then `rest` again and again.
    pub(crate) fn start<B: Backend>(
        source: Source<B>,
        memory: Memory,
        readers: &Readers,
        transfer: Transfer,
        first: Vec<Order>,
        rest: Vec<Order>,
    ) -> Result<Self> {
        let (ready, arrivals) = channel();
        let (requests, permissions) = channel();
        // Memory bounds how far reading goes ahead; units that stay in host memory are read even while all slots are
        // taken, so that they are there when the first pass has compiled its kernels.
        let (to_deliver, coming) = sync_channel(source.units.len());
        let (job, open) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let uploads = source.upload.has_own_memory();
        let (reads_wait, uploads_wait) = match transfer {
            Transfer::Sync => (Some(permissions), None),
            Transfer::Prefetch if uploads => (None, Some(permissions)),
            Transfer::Prefetch | Transfer::Async => (None, None),
        };
        let waits = reads_wait.is_some() || uploads_wait.is_some();
        let source = Arc::new(source);
        let feed = feed::Feed {
            source: source.clone(),
            jobs: readers.jobs(),
            ring: slot::HostRing::new(memory.host_ring),
            kept: memory.kept.clone(),
            permissions: reads_wait,
            stop: stop.clone(),
            open: job,
            coming: to_deliver,
        };
        let kept = memory.kept;
        let clock = readers.clock();
        let joiner = join::Joiner { source: source.clone(), coming, kept: kept.clone(), clock: clock.clone() };

        let requests = waits.then_some(requests);
        let mut stream = Self { arrivals: Some(arrivals), requests, stop, kept, threads: Vec::new(), open };
        stream.spawn("leveret-feed", move || feed.run(first.into_iter().chain(rest.into_iter().cycle())))?;
        if uploads {
            let (to_upload, joined) = sync_channel(source.units.len());
            let (uploading, completed) = channel();
            let (ring, resident) = (slot::DeviceRing::new(memory.device_ring), memory.resident);
            let uploader =
                upload::Uploader { source, joined, clock, ring, resident, permissions: uploads_wait, uploading };
            stream.spawn("leveret-join", move || joiner.run(|joined| to_upload.send(joined).is_ok()))?;
            stream.spawn("leveret-uploader", move || uploader.run())?;
            stream.spawn("leveret-upload", move || upload::complete(&completed, &ready))?;
        } else {
            let arrive = move |joined: Result<join::Joined>| ready.send(joined.map(join::Joined::arrive)).is_ok();
            stream.spawn("leveret-join", move || joiner.run(arrive))?;
        }
        Ok(stream)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(run).at(name)?);
        Ok(())
    }

    /// The next unit in the order; waits until it is there. After an error the stream is over.
    pub(crate) fn next(&mut self) -> Result<Arrived> {
        if let Some(requests) = &self.requests {
            requests.send(()).map_err(|_| Error::ReaderStopped)?;
        }
        let arrivals = self.arrivals.as_ref().ok_or(Error::ReaderStopped)?;
        arrivals.recv().map_err(|_| Error::ReaderStopped)?
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The memory of units that have arrived goes home, which wakes a thread that waits for some.
        self.stop.store(true, Ordering::SeqCst);
        self.kept.wake();
        self.arrivals = None;
        self.requests = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // What has been asked for is read to its end: then all memory is free.
        let _ = self.open.recv();
    }
}
