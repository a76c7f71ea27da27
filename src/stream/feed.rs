//! The thread that decides what is read into which memory, ahead of its use.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

use bytes::Bytes;
use leveret_models::Backend;

use super::kept::{Claim, Kept};
use super::readers::{Filled, Job};
use super::slot::HostRing;
use super::{HostSlot, Order, Source};
use crate::error::{AtPath, Result};
use crate::io::Piece;
use crate::plan::Tier;

/// A unit whose bytes are on their way.
pub(super) struct Coming {
    pub(super) order: Order,
    pub(super) bytes: Incoming,
}

/// How a unit's bytes come.
pub(super) enum Incoming {
    /// They are there: it lives in host memory.
    Kept(Bytes),
    /// In pieces of one memory, so many.
    Whole(Receiver<Result<Filled>>, usize),
    /// In chunks that each have a memory, so many.
    Chunks(Receiver<Result<Filled>>, usize),
}

/// What the feeding thread needs.
pub(super) struct Feed<B: Backend> {
    pub(super) source: Arc<Source<B>>,
    pub(super) jobs: Sender<Job>,
    pub(super) ring: HostRing,
    pub(super) kept: Kept,
    /// Permission to read the next unit, where it is not read ahead.
    pub(super) permissions: Option<Receiver<()>>,
    pub(super) stop: Arc<AtomicBool>,
    /// Goes with every job, so that a stream knows when all are gone.
    pub(super) open: Sender<Infallible>,
    pub(super) coming: SyncSender<Result<Coming>>,
}

impl<B: Backend> Feed<B> {
    /// Feeds units in the given order until that ends or nobody wants them any more.
    pub(super) fn run(self, orders: impl Iterator<Item = Order>) {
        for order in orders {
            if self.permissions.as_ref().is_some_and(|permissions| permissions.recv().is_err()) {
                return;
            }
            let fed = self.feed(order);
            if self.stop.load(Ordering::SeqCst) || !matches!(fed, Ok(true)) {
                if let Err(error) = fed {
                    let _ = self.coming.send(Err(error));
                }
                return;
            }
        }
    }

    /// Whether the unit could be handed on.
    fn feed(&self, order: Order) -> Result<bool> {
        if order.tier == Tier::Host {
            match self.kept.claim(order.unit, &self.stop) {
                Claim::Here(bytes) => return Ok(self.hand_on(order, Incoming::Kept(bytes))),
                Claim::Stopped => return Ok(false),
                Claim::Yours => {}
            }
        }
        let (done, filled) = channel();
        let chunks: Vec<_> = self.source.units[order.unit].chunks().collect();
        let ask = |read, piece| {
            let job = Job {
                unit: order.unit,
                read,
                piece,
                done: done.clone(),
                stop: self.stop.clone(),
                _open: self.open.clone(),
            };
            self.jobs.send(job).is_ok()
        };
        if self.passes_through(order) {
            return Ok(self.hand_on(order, Incoming::Chunks(filled, chunks.len()))
                && chunks.into_iter().all(|chunk| {
                    let piece = self.free().map(|memory| Piece::first(memory, chunk.slot.len()));
                    piece.is_some_and(|piece| ask(chunk, piece))
                }));
        }
        let Some(memory) = self.whole(order)? else { return Ok(false) };
        let pieces = Piece::split(memory, chunks.iter().map(|chunk| chunk.slot.clone()));
        let count = chunks.len();
        let asked = chunks.into_iter().zip(pieces).all(|(chunk, piece)| ask(chunk, piece));
        Ok(asked && self.hand_on(order, Incoming::Whole(filled, count)))
    }

    fn hand_on(&self, order: Order, bytes: Incoming) -> bool {
        self.coming.send(Ok(Coming { order, bytes })).is_ok()
    }

    /// Whether the unit's bytes only pass through host memory, chunk by chunk.
    fn passes_through(&self, order: Order) -> bool {
        self.source.upload.has_own_memory() && order.tier != Tier::Host
    }

    /// Memory for all of a unit: its own if it stays there, else the next of the ring.
    fn whole(&self, order: Order) -> Result<Option<HostSlot>> {
        let stays = match order.tier {
            Tier::Device => self.source.keeps_host_memory,
            Tier::Host => true,
            Tier::Disk => false,
        };
        if !stays {
            return Ok(self.free());
        }
        let memory = self.source.upload.host_memory(self.source.units[order.unit].host_len);
        Ok(Some(HostSlot::alone(memory.at("host memory")?)))
    }

    /// The next memory of the ring, unless the stream has ended meanwhile.
    fn free(&self) -> Option<HostSlot> {
        self.ring.take().ok().filter(|_| !self.stop.load(Ordering::SeqCst))
    }
}
