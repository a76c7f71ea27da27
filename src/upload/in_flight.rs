use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::error::Result;
use crate::stream::DeviceSlot;

/// Something that a device will have done.
pub(crate) trait Event: Debug + Send {
    /// Waits until it has.
    fn wait(self: Box<Self>) -> Result<()>;
}

/// A copy that is on its way: both its ends stay until it has been waited for.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Present until it has been waited for.
    copied: Option<Box<dyn Event>>,
    start: Instant,
    _from: Bytes,
    _to: Arc<DeviceSlot>,
}

impl InFlight {
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "made for devices with memory of their own"))]
    pub(super) fn new(copied: Box<dyn Event>, start: Instant, from: Bytes, to: Arc<DeviceSlot>) -> Self {
        Self { copied: Some(copied), start, _from: from, _to: to }
    }

    /// When it was begun.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Waits until it is done.
    pub(crate) fn wait(mut self) -> Result<()> {
        self.copied.take().map_or(Ok(()), Event::wait)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(copied) = self.copied.take() {
            // A copy that failed no longer touches its ends.
            let _ = copied.wait();
        }
    }
}
