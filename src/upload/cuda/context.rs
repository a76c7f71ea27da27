use cudarc::driver::{result, sys};

use super::failed;
use crate::error::Result;

/// A device's primary context, the one that cubecl computes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    raw: sys::CUcontext,
    device: sys::CUdevice,
}

// SAFETY: a context handle may be used from any thread that makes it current.
unsafe impl Send for Context {}
// SAFETY: as above; the driver serialises what needs it.
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn primary(index: usize) -> Result<Self> {
        result::init().map_err(failed)?;
        let device = result::device::get(i32::try_from(index).unwrap_or(i32::MAX)).map_err(failed)?;
        // SAFETY: the driver has been initialised; the context stays retained until the process ends.
        let raw = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        Ok(Self { raw, device })
    }

    pub(super) fn make_current(self) -> Result<()> {
        // SAFETY: the context was retained in `primary` and lives until the process ends.
        unsafe { result::ctx::set_current(self.raw) }.map_err(failed)
    }

    /// What is known of the device's memory pool, which cubecl allocates from, in bytes.
    pub(super) fn of_pool(self, attribute: sys::CUmemPool_attribute) -> Option<u64> {
        let mut bytes = 0u64;
        // SAFETY: the device is valid; the attributes that are bytes are written as 64 bits, others as fewer.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.device).ok()?;
            result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()).ok()?;
        }
        Some(bytes)
    }
}

/// A stream for copies alone; lives until the process ends, as the context does.
#[derive(Debug, Clone, Copy)]
pub(super) struct CopyStream(sys::CUstream);

// SAFETY: a stream handle may be used from any thread in whose context it was made.
unsafe impl Send for CopyStream {}
// SAFETY: as above; the driver serialises what needs it.
unsafe impl Sync for CopyStream {}

impl CopyStream {
    pub(super) fn new(context: Context) -> Result<Self> {
        context.make_current()?;
        result::stream::create(result::stream::StreamKind::NonBlocking).map(Self).map_err(failed)
    }

    /// Waits until everything on it is done.
    pub(super) fn synchronise(self) -> Result<()> {
        // SAFETY: the stream lives until the process ends.
        unsafe { result::stream::synchronize(self.0) }.map_err(failed)
    }

    pub(super) fn raw(self) -> sys::CUstream {
        self.0
    }
}
