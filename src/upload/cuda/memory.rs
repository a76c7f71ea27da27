use std::fmt;

use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cudarc::driver::sys;

use super::event::Computed;
use crate::error::{Error, Result};
use crate::upload::Event;

/// A region of device memory that cubecl's kernels can read, of exactly the length asked for.
pub(crate) struct CudaMemory {
    client: ComputeClient<CudaRuntime>,
    handle: Handle,
    len: u64,
    address: sys::CUdeviceptr,
}

impl fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaMemory").field("address", &self.address).field("len", &self.len).finish_non_exhaustive()
    }
}

impl CudaMemory {
    pub(super) fn new(client: &ComputeClient<CudaRuntime>, len: usize) -> Result<Self> {
        // Persistent: not a part of a larger page that stays when this has gone.
        let handle = client.memory_persistent_allocation((), |()| client.empty(len)).map_err(Error::device)?;
        let resource = client.get_resource(handle.clone()).map_err(Error::device)?;
        let address = resource.resource().ptr;
        Ok(Self { client: client.clone(), handle, len: len as u64, address })
    }

    /// The address of `len` bytes from `offset` on.
    pub(super) fn address(&self, offset: usize, len: usize) -> sys::CUdeviceptr {
        assert!((offset + len) as u64 <= self.len, "a unit fits its slot");
        self.address + offset as u64
    }

    /// `len` bytes from `offset` on, for kernels.
    pub(super) fn view(&self, offset: usize, len: usize) -> Handle {
        let end = (offset + len) as u64;
        assert!(end <= self.len, "a tensor lies in its slot");
        self.handle.clone().offset_start(offset as u64).offset_end(self.len - end)
    }

    /// What tells when everything has ended that this thread has told the device to compute so far.
    pub(crate) fn computed(&self) -> Box<dyn Event> {
        Box::new(Computed(self.client.sync()))
    }
}
