use std::fmt;

use cubecl::future::DynFut;
use cubecl::server::ServerError;
use cudarc::driver::{result, sys};
use leveret_models::Uploading;

use super::context::{Context, CopyStream};
use super::{checked, failed};
use crate::error::{Error, Result};
use crate::upload::Event;

/// Bytes of a copy that is over before one who sleeps is awake.
const SHORT: usize = 16 << 20;

/// The end of everything that was on a copy stream when it was recorded.
#[derive(Debug)]
pub(super) struct CopyEvent {
    raw: sys::CUevent,
    context: Context,
    stream: CopyStream,
    _uploading: Uploading,
}

// SAFETY: an event handle may be used from any thread in whose context it was made.
unsafe impl Send for CopyEvent {}

impl CopyEvent {
    /// An event after a copy of `len` bytes.
    pub(super) fn new(context: Context, stream: CopyStream, len: usize) -> Result<Self> {
        // One who waits for long sleeps, since the cores have other work; to be woken takes as long as a short copy.
        let sleeps = match len > SHORT {
            true => sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32,
            false => 0,
        };
        let flags = sleeps | sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        context.make_current()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the driver writes a handle to `raw`.
        checked(unsafe { sys::cuEventCreate(&raw mut raw, flags) })?;
        Ok(Self { raw, context, stream, _uploading: Uploading::begin() })
    }

    /// Marks what is on the stream now.
    pub(super) fn record(self) -> Result<Self> {
        // SAFETY: event and stream were made in the same context, and both live.
        unsafe { result::event::record(self.raw, self.stream.raw()) }.map_err(failed)?;
        Ok(self)
    }
}

impl Event for CopyEvent {
    fn wait(self: Box<Self>) -> Result<()> {
        let current = self.context.make_current();
        // Waited for in any case: an event knows its context.
        // SAFETY: the event was recorded and lives.
        checked(unsafe { sys::cuEventSynchronize(self.raw) }).and(current)
    }
}

impl Drop for CopyEvent {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: nobody else has the handle; the driver keeps what is still recorded until it is reached.
            let _ = unsafe { sys::cuEventDestroy_v2(self.raw) };
        }
    }
}

/// The end of everything that a thread has told the device to compute.
pub(super) struct Computed(pub(super) DynFut<std::result::Result<(), ServerError>>);

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}

impl Event for Computed {
    fn wait(self: Box<Self>) -> Result<()> {
        cubecl::future::block_on(self.0).map_err(Error::device)
    }
}
