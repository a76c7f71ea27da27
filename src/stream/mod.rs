//! Keeps the next units coming: rings of slots, a thread that reads, a thread that uploads, and the order of units.

mod reader;
mod slot;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use leveret_models::Backend;

pub(crate) use slot::{DeviceSlot, HostSlot, Slot};

use crate::checkpoint::Checkpoint;
use crate::error::{AtPath, Error, Result};
use crate::plan::Tier;
use crate::unit::Unit;
use crate::upload::{DeviceMemory, HostMemory, Upload};

/// How the next units' weights arrive while the present one computes; results are equal to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transfer {
    /// Each unit is read when it is needed.
    Sync,
    /// Units are read ahead and uploaded when they are needed. On a CPU there is no upload: the same as `Async`.
    Prefetch,
    /// Units are read and uploaded ahead.
    #[default]
    Async,
}

impl Transfer {
    /// The modes by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("sync", Self::Sync), ("prefetch", Self::Prefetch), ("async", Self::Async)];
}

impl std::str::FromStr for Transfer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, mode)| mode).ok_or_else(|| Error::Name {
            what: "transfer mode",
            found: name.to_owned(),
            expected: "sync, prefetch or async".to_owned(),
        })
    }
}

/// One unit to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    /// Index of the unit.
    pub(crate) unit: usize,
    /// Where it lives between passes.
    pub(crate) tier: Tier,
}

/// Bytes of a unit, laid out as its tensors say, and what bringing them took.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) order: Order,
    /// The bytes, where the device uses host memory.
    pub(crate) host: Bytes,
    /// The bytes, where the device has its own memory.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read for devices with memory of their own"))]
    pub(crate) device: DeviceSlot,
    /// Bytes that were read from files, and the time it took.
    pub(crate) read: (u64, Duration),
    /// Bytes that were copied to the device.
    pub(crate) uploaded: u64,
    /// Time that the copy to the device took.
    pub(crate) upload: Duration,
}

/// Units that stay in host memory and are uploaded from there in each pass.
pub(crate) type HostTier = Arc<Mutex<HashMap<usize, Bytes>>>;

/// What a stream brings, from where, through what.
pub(crate) struct Source<B: Backend> {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) units: Arc<Vec<Unit>>,
    pub(crate) upload: Arc<dyn Upload<B>>,
    pub(crate) transfer: Transfer,
    /// Whether tensors are made of host memory as it lies, so that what stays resident needs memory of its own.
    pub(crate) keeps_host_memory: bool,
    pub(crate) host_tier: HostTier,
    pub(crate) host_ring: Vec<Box<dyn HostMemory>>,
    pub(crate) device_ring: Vec<DeviceMemory>,
    /// Device memory of the units that are to stay there.
    pub(crate) resident: HashMap<usize, DeviceMemory>,
}

/// Two threads, one that reads units in a given order and one that uploads them, both ahead of their use.
///
/// The order is all there is to it: first some units once, then others over and over, across the ends of passes. A
/// slot is free again when the last tensor made of it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Taken before the threads are joined.
    arrivals: Option<Receiver<Result<Arrived>>>,
    /// Permission to read (sync) or to upload (prefetch) the next unit.
    requests: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A unit on its way from the reading thread to the uploading one.
type Loaded = Result<(Order, Bytes, (u64, Duration))>;

impl Stream {
    /// Starts to bring `first`, then `rest` again and again.
    pub(crate) fn start<B: Backend>(mut source: Source<B>, first: Vec<Order>, rest: Vec<Order>) -> Result<Self> {
        let (ready, arrivals) = channel();
        let (requests, permissions) = channel();
        let (to_upload, loaded) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (reads_wait, uploads_wait) = match source.transfer {
            Transfer::Sync => (Some(permissions), None),
            Transfer::Prefetch => (None, Some(permissions)),
            Transfer::Async => (None, None),
        };
        let waits = reads_wait.is_some() || uploads_wait.is_some();
        let host_ring = std::mem::take(&mut source.host_ring);
        let device_ring = std::mem::take(&mut source.device_ring);
        let resident = std::mem::take(&mut source.resident);
        let source = Arc::new(source);

        let (reading, stopped) = (source.clone(), stop.clone());
        let read = move || reading.read(first, rest, host_ring, reads_wait, &stopped, &to_upload);
        let upload = move || source.upload(&loaded, device_ring, resident, uploads_wait, &ready);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run).at(name)
        };
        let threads = vec![spawn("leveret-read", Box::new(read))?, spawn("leveret-upload", Box::new(upload))?];
        Ok(Self { arrivals: Some(arrivals), requests: waits.then_some(requests), stop, threads })
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

impl<B: Backend> Source<B> {
    /// The reading thread.
    fn read(
        &self,
        first: Vec<Order>,
        rest: Vec<Order>,
        ring: Vec<Box<dyn HostMemory>>,
        permissions: Option<Receiver<()>>,
        stop: &AtomicBool,
        to_upload: &SyncSender<Loaded>,
    ) {
        let (home, free) = channel();
        ring.into_iter().for_each(|memory| drop(Slot::new(memory, Some(home.clone()))));
        for order in first.into_iter().chain(rest.into_iter().cycle()) {
            if permissions.as_ref().is_some_and(|permissions| permissions.recv().is_err()) {
                return;
            }
            let kept = self.host_tier.lock().unwrap_or_else(PoisonError::into_inner).get(&order.unit).cloned();
            let loaded = match kept {
                Some(bytes) => Ok((order, bytes, (0, Duration::ZERO))),
                None if self.needs_own_memory(order) => {
                    let memory = self.upload.host_memory(self.units[order.unit].slot_len);
                    memory.at(self.checkpoint.dir()).and_then(|memory| self.load(order, Slot::new(memory, None)))
                }
                None => match free.recv() {
                    Ok(memory) => self.load(order, Slot::new(memory, Some(home.clone()))),
                    Err(_) => return,
                },
            };
            let failed = loaded.is_err();
            if stop.load(Ordering::Relaxed) || to_upload.send(loaded).is_err() || failed {
                return;
            }
        }
    }

    /// Whether the unit stays in the host memory that it is read into.
    fn needs_own_memory(&self, order: Order) -> bool {
        match order.tier {
            Tier::Device => self.keeps_host_memory,
            Tier::Host => true,
            Tier::Disk => false,
        }
    }

    fn load(&self, order: Order, mut slot: HostSlot) -> Loaded {
        let (unit, started) = (&self.units[order.unit], Instant::now());
        reader::read_unit(&self.checkpoint, unit, &mut slot)?;
        let bytes = slot.freeze();
        if order.tier == Tier::Host {
            let mut kept = self.host_tier.lock().unwrap_or_else(PoisonError::into_inner);
            kept.insert(order.unit, bytes.clone());
        }
        Ok((order, bytes, (unit.bytes(), started.elapsed())))
    }

    /// The uploading thread.
    fn upload(
        &self,
        loaded: &Receiver<Loaded>,
        ring: Vec<DeviceMemory>,
        mut resident: HashMap<usize, DeviceMemory>,
        permissions: Option<Receiver<()>>,
        ready: &Sender<Result<Arrived>>,
    ) {
        let (home, free) = channel();
        ring.into_iter().for_each(|memory| drop(Slot::new(memory, Some(home.clone()))));
        for loaded in loaded {
            if permissions.as_ref().is_some_and(|permissions| permissions.recv().is_err()) {
                return;
            }
            let mut slot = |unit| match (self.upload.has_own_memory(), resident.remove(&unit)) {
                (false, _) => Some(Slot::new(DeviceMemory::Host, None)),
                (true, Some(memory)) => Some(Slot::new(memory, None)),
                (true, None) => free.recv().ok().map(|memory| Slot::new(memory, Some(home.clone()))),
            };
            let arrived = loaded.map(|(order, host, read)| (slot(order.unit), order, host, read));
            let arrived = match arrived {
                Ok((None, ..)) => return,
                Ok((Some(device), order, host, read)) => self.copy(order, host, device, read),
                Err(error) => Err(error),
            };
            let failed = arrived.is_err();
            if ready.send(arrived).is_err() || failed {
                return;
            }
        }
    }

    fn copy(&self, order: Order, host: Bytes, device: DeviceSlot, read: (u64, Duration)) -> Result<Arrived> {
        let started = Instant::now();
        let own_memory = self.upload.has_own_memory();
        let unit = &self.units[order.unit];
        if own_memory {
            self.upload.copy(unit, &host, device.memory())?;
        }
        let uploaded = if own_memory { unit.bytes() } else { 0 };
        // What has been copied makes room for the next.
        let host = if own_memory { Bytes::new() } else { host };
        Ok(Arrived { order, host, device, read, uploaded, upload: started.elapsed() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The slots of units that have arrived go home, which wakes a thread that waits for one.
        self.stop.store(true, Ordering::Relaxed);
        self.arrivals = None;
        self.requests = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
