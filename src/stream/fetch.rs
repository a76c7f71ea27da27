//! A unit that is asked for out of turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::order::Clock;
use super::readers::{Filled, Job, receive};
use super::{HostSlot, Readers, Work};
use crate::error::{Error, Result};
use crate::io::Piece;
use crate::unit::Unit;

/// Reads one unit into one memory, by all readers at once; what is dropped is no longer read.
#[derive(Debug)]
pub(crate) struct Fetch {
    filled: Receiver<Result<Filled>>,
    /// Chunks that are not yet there.
    missing: usize,
    pieces: Vec<Piece<HostSlot>>,
    read: Work,
    clock: Clock,
    stop: Arc<AtomicBool>,
}

impl Fetch {
    /// Asks for a unit, which traces call `number`.
    pub(crate) fn start(readers: &Readers, number: usize, unit: &Unit, memory: HostSlot) -> Result<Self> {
        let (done, filled) = channel();
        // Whoever drops a fetch need not wait for what is left of it: its memory goes home with the last piece.
        let (open, _) = channel();
        let (stop, jobs) = (Arc::new(AtomicBool::new(false)), readers.jobs());
        let chunks: Vec<_> = unit.chunks().collect();
        let pieces = Piece::split(memory, chunks.iter().map(|chunk| chunk.slot.clone()));
        let missing = chunks.len();
        for (read, piece) in chunks.into_iter().zip(pieces) {
            let (done, stop, _open) = (done.clone(), stop.clone(), open.clone());
            let job = Job { unit: number, read, piece, done, stop, _open };
            jobs.send(job).map_err(|_| Error::ReaderStopped)?;
        }
        let read = Work { bytes: unit.bytes(), ..Work::default() };
        Ok(Self { filled, missing, pieces: Vec::with_capacity(missing), read, clock: readers.clock(), stop })
    }

    /// Whether all of it is there.
    pub(crate) fn is_complete(&mut self) -> Result<bool> {
        while self.missing > 0 {
            match self.filled.try_recv() {
                Ok(filled) => self.put(filled?),
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => return Err(Error::ReaderStopped),
            }
        }
        Ok(true)
    }

    /// Waits until all of it is there, or `is_over`; gives its memory and what reading took.
    pub(crate) fn wait(mut self, is_over: &dyn Fn() -> bool) -> Result<(HostSlot, Work)> {
        while self.missing > 0 {
            let filled = receive(&self.filled, is_over)?;
            self.put(filled);
        }
        let memory = Piece::join(std::mem::take(&mut self.pieces)).ok_or(Error::ReaderStopped)?;
        Ok((memory, self.read))
    }

    fn put(&mut self, Filled { piece, time, .. }: Filled) {
        self.read.add(time, &self.clock);
        self.pieces.push(piece);
        self.missing -= 1;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
