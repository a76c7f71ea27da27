use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::DeviceSlot;
use crate::plan::Tier;

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
    pub(crate) device: Option<Arc<DeviceSlot>>,
    /// Reading it from files, if it was.
    pub(crate) read: Work,
    /// Copying it to the device, if it was.
    pub(crate) upload: Work,
}

/// Bytes that were moved, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) bytes: u64,
    /// Time in which at least one of them was on its way and none of an earlier unit.
    pub(crate) busy: Duration,
    /// When the last was there.
    pub(crate) end: Option<Instant>,
}

/// Until when bytes of one kind have counted as being on their way, so that no moment counts twice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<Instant>>>);

impl Work {
    /// Takes note of bytes that were on their way from `start` to `end`.
    pub(crate) fn add(&mut self, (start, end): (Instant, Instant), clock: &Clock) {
        let mut clock = clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = clock.map_or(start, |clock| clock.max(start));
        self.busy += end.saturating_duration_since(from);
        self.end = self.end.max(Some(end));
        *clock = (*clock).max(Some(end));
    }
}
