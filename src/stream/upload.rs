//! The threads that bring units to a device with memory of its own: one begins uploads, one waits for them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use bytes::Bytes;
use leveret_models::Backend;

use super::join::{Content, Joined};
use super::order::{Clock, Work};
use super::readers::{Filled, read_chunk};
use super::slot::DeviceRing;
use super::{Arrived, DeviceSlot, Order, Source};
use crate::error::{Error, Result};
use crate::upload::{DeviceMemory, InFlight};

/// What the thread that begins uploads tells the one that waits for them.
pub(super) enum Uploading {
    /// Bytes of a unit are on their way, so many.
    Part(usize, InFlight, u64),
    /// The unit is complete once they are there.
    Last(Order, Arc<DeviceSlot>, Work),
    Failed(Error),
}

/// What the uploading thread needs.
pub(super) struct Uploader<B: Backend> {
    pub(super) source: Arc<Source<B>>,
    pub(super) joined: Receiver<Result<Joined>>,
    pub(super) clock: Clock,
    pub(super) ring: DeviceRing,
    /// Memory of the units that are to stay on the device.
    pub(super) resident: HashMap<usize, DeviceMemory>,
    /// Permission to upload the next unit, where it is not uploaded ahead.
    pub(super) permissions: Option<Receiver<()>>,
    pub(super) uploading: Sender<Uploading>,
}

impl<B: Backend> Uploader<B> {
    /// Uploads units as they come in.
    pub(super) fn run(mut self) {
        while let Ok(joined) = self.joined.recv() {
            if self.permissions.as_ref().is_some_and(|permissions| permissions.recv().is_err()) {
                return;
            }
            match joined.and_then(|joined| self.upload(joined)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let _ = self.uploading.send(Uploading::Failed(error));
                    return;
                }
            }
        }
    }

    /// Whether anybody waits for the unit.
    fn upload(&mut self, Joined { order, bytes }: Joined) -> Result<bool> {
        let slot = Arc::new(match self.resident.remove(&order.unit) {
            Some(memory) => DeviceSlot::alone(memory),
            None => self.ring.take()?,
        });
        let read = match bytes {
            Content::All(bytes, read) => {
                let all = 0..bytes.len();
                if !self.begin(order.unit, bytes, all, &slot)? {
                    return Ok(false);
                }
                read
            }
            Content::Chunks(filled, count) => {
                let mut read = Work { bytes: self.source.units[order.unit].bytes(), ..Work::default() };
                for _ in 0..count {
                    let Filled { read: chunk, piece, time } = read_chunk(&filled)?;
                    read.add(time, &self.clock);
                    if !self.begin(order.unit, Bytes::from_owner(piece), chunk.slot, &slot)? {
                        return Ok(false);
                    }
                }
                read
            }
        };
        Ok(self.uploading.send(Uploading::Last(order, slot, read)).is_ok())
    }

    /// Begins to upload the bytes that lie at `place` of a unit; whether anybody waits for them.
    fn begin(&self, unit: usize, bytes: Bytes, place: Range<usize>, slot: &Arc<DeviceSlot>) -> Result<bool> {
        let segments = self.source.units[unit].segments(place.clone());
        let segments: Vec<_> =
            segments.map(|(from, to)| (from.start - place.start..from.end - place.start, to)).collect();
        let copied = segments.iter().map(|(from, _)| from.len() as u64).sum();
        let part = self.source.upload.copy(bytes, slot, &segments)?;
        Ok(self.uploading.send(Uploading::Part(unit, part, copied)).is_ok())
    }
}

/// Waits for uploads, one after another, and hands units over.
pub(super) fn complete(uploading: &Receiver<Uploading>, ready: &Sender<Result<Arrived>>) {
    let (mut upload, clock) = (Work::default(), Clock::default());
    while let Ok(next) = uploading.recv() {
        let arrived = match next {
            Uploading::Part(unit, part, bytes) => {
                let _span = tracing::trace_span!("upload", unit, bytes).entered();
                let start = part.start();
                match part.wait() {
                    Ok(()) => {
                        upload.bytes += bytes;
                        upload.add((start, Instant::now()), &clock);
                        continue;
                    }
                    Err(error) => Err(error),
                }
            }
            Uploading::Last(order, slot, read) => {
                let upload = std::mem::take(&mut upload);
                Ok(Arrived { order, host: Bytes::new(), device: Some(slot), read, upload })
            }
            Uploading::Failed(error) => Err(error),
        };
        let failed = arrived.is_err();
        if ready.send(arrived).is_err() || failed {
            return;
        }
    }
}
