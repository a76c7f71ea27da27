use std::ops::{Deref, DerefMut};

use cudarc::driver::sys;

use super::checked;
use super::context::Context;
use crate::error::Result;
use crate::upload::HostMemory;

/// Host memory whose pages are locked, which the device copies from without the host.
#[derive(Debug)]
pub(super) struct Pinned {
    memory: Box<dyn HostMemory>,
    context: Context,
}

impl Pinned {
    /// Locks pages; ten times faster for pages that have been written before.
    pub(super) fn new(mut memory: Box<dyn HostMemory>, context: Context) -> Result<Self> {
        context.make_current()?;
        let portable = sys::CU_MEMHOSTREGISTER_PORTABLE;
        // SAFETY: the range is memory of our own, and is unregistered before it is given back.
        checked(unsafe { sys::cuMemHostRegister_v2(memory.as_mut_ptr().cast(), memory.len(), portable) })?;
        Ok(Self { memory, context })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: `new` registered this range; copies from it have been waited for.
            let _ = unsafe { sys::cuMemHostUnregister(self.memory.as_mut_ptr().cast()) };
        }
    }
}

impl HostMemory for Pinned {}

impl Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}
