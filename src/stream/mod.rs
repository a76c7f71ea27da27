//! Keeps the next units coming: slots, reader threads, and the order in which units pass.

mod reader;
mod slot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use slot::Slot;

use crate::checkpoint::Checkpoint;
use crate::error::{AtPath, Error, Result};
use crate::unit::Unit;

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
    /// Whether it stays where it is read: then it gets memory of its own, else a slot of the ring.
    pub(crate) own_memory: bool,
}

/// Bytes of a unit, laid out as its tensors say, and what bringing them took.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) order: Order,
    pub(crate) weights: Bytes,
    /// Time that the reading itself took.
    pub(crate) read: Duration,
}

/// A thread that reads units in a given order into a ring of slots, ahead of their use.
///
/// The order is all there is to it: first some units once, then others over and over, across the ends of passes. A
/// slot is free again when the last tensor made of it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Taken before the thread is joined.
    arrivals: Option<Receiver<Result<Arrived>>>,
    /// In sync mode, permission to read the next unit.
    requests: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a stream reads, and into what.
pub(crate) struct Source {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) units: Arc<Vec<Unit>>,
    pub(crate) slots: usize,
    pub(crate) slot_len: usize,
    pub(crate) transfer: Transfer,
}

impl Stream {
    /// Starts to bring `first`, then `rest` again and again.
    pub(crate) fn start(source: Source, first: Vec<Order>, rest: Vec<Order>) -> Result<Self> {
        let (ready, arrivals) = channel();
        let (requests, permissions) = channel();
        let (home, free) = channel();
        for _ in 0..source.slots {
            let slot = Slot::new(source.slot_len, Some(home.clone())).at(source.checkpoint.dir())?;
            drop(slot); // Goes home.
        }
        let sync = source.transfer == Transfer::Sync;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = move || {
            for order in first.into_iter().chain(rest.into_iter().cycle()) {
                if sync && permissions.recv().is_err() {
                    return;
                }
                let slot = match order.own_memory {
                    true => Slot::new(source.units[order.unit].slot_len, None).at(source.checkpoint.dir()),
                    false => match free.recv() {
                        Ok(buffer) => Ok(Slot::from_home(buffer, home.clone())),
                        Err(_) => return,
                    },
                };
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let started = Instant::now();
                let arrived = slot.and_then(|mut slot| {
                    reader::read_unit(&source.checkpoint, &source.units[order.unit], &mut slot)?;
                    Ok(Arrived { order, weights: slot.freeze(), read: started.elapsed() })
                });
                let failed = arrived.is_err();
                if ready.send(arrived).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("leveret-stream".into()).spawn(run).at("leveret-stream")?;
        Ok(Self { arrivals: Some(arrivals), requests: sync.then_some(requests), stop, thread: Some(thread) })
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
        // The slots of units that have arrived go home, which wakes a thread that waits for one.
        self.stop.store(true, Ordering::Relaxed);
        self.arrivals = None;
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
