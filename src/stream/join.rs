//! The thread that puts the pieces of a unit together, where they were read into one memory.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use leveret_models::Backend;

use super::feed::{Coming, Incoming};
use super::order::{Clock, Work};
use super::readers::{Filled, read_chunk};
use super::{Arrived, Kept, Order, Source};
use crate::error::{Error, Result};
use crate::io::Piece;
use crate::plan::Tier;

/// A unit whose bytes can be used or uploaded.
pub(super) struct Joined {
    pub(super) order: Order,
    pub(super) bytes: Content,
}

/// Where a unit's bytes are.
pub(super) enum Content {
    /// All in one memory, and what reading them took.
    All(Bytes, Work),
    /// In chunks that each have a memory, so many, some of them still being read.
    Chunks(Receiver<Result<Filled>>, usize),
}

/// What the joining thread needs.
pub(super) struct Joiner<B: Backend> {
    pub(super) source: Arc<Source<B>>,
    pub(super) coming: Receiver<Result<Coming>>,
    pub(super) kept: Kept,
    pub(super) clock: Clock,
}

impl<B: Backend> Joiner<B> {
    /// Hands units on as long as anybody takes them; after an error there are no more.
    pub(super) fn run(self, hand_on: impl Fn(Result<Joined>) -> bool) {
        while let Ok(coming) = self.coming.recv() {
            let joined = coming.and_then(|coming| self.join(coming));
            let failed = joined.is_err();
            if !hand_on(joined) || failed {
                return;
            }
        }
    }

    fn join(&self, Coming { order, bytes }: Coming) -> Result<Joined> {
        let bytes = match bytes {
            Incoming::Kept(bytes) => Content::All(bytes, Work::default()),
            Incoming::Chunks(filled, count) => Content::Chunks(filled, count),
            Incoming::Whole(filled, count) => {
                let mut read = Work { bytes: self.source.units[order.unit].bytes(), ..Work::default() };
                let mut pieces = Vec::with_capacity(count);
                for _ in 0..count {
                    let Filled { piece, time, .. } = read_chunk(&filled)?;
                    read.add(time, &self.clock);
                    pieces.push(piece);
                }
                let memory = Piece::join(pieces).ok_or(Error::ReaderStopped)?;
                Content::All(
                    if order.tier == Tier::Host { self.keep(order.unit, memory)? } else { memory.freeze() },
                    read,
                )
            }
        };
        Ok(Joined { order, bytes })
    }

    /// Keeps a unit in host memory for all passes to come.
    fn keep(&self, unit: usize, memory: super::HostSlot) -> Result<Bytes> {
        // Locked once it is written: that is faster, and writing was the work of many threads.
        let bytes = memory.try_map(|memory| self.source.upload.page_lock(memory))?.freeze();
        self.kept.fill(unit, bytes.clone());
        Ok(bytes)
    }
}

impl Joined {
    /// The unit as it arrives where its bytes are used in the memory that they were read into.
    pub(super) fn arrive(self) -> Arrived {
        let (host, read) = match self.bytes {
            Content::All(bytes, read) => (bytes, read),
            Content::Chunks(..) => unreachable!("what is used where it was read lies in one memory"),
        };
        Arrived { order: self.order, host, device: None, read, upload: Work::default() }
    }
}
