use std::io;
use std::ops::{Deref, DerefMut};

use burn::backend::Cuda;
use burn::backend::cuda::CudaDevice;
use burn::tensor::ops::FloatTensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cudarc::driver::{DriverError, result, sys};

use super::host::Pages;
use super::{DeviceMemory, HostMemory, Upload};
use crate::error::{Error, Result};
use crate::stream::Arrived;
use crate::unit::{Unit, UnitTensor};

/// CUDA's own way: page-locked host memory, device memory made once, and a stream for copies alone.
pub(super) struct CudaUpload {
    device: CudaDevice,
    client: ComputeClient<CudaRuntime>,
    context: Context,
    stream: CopyStream,
    pin: bool,
}

/// The device's primary context, the one that cubecl computes in.
#[derive(Debug, Clone, Copy)]
struct Context(sys::CUcontext);

// SAFETY: a context handle may be used from any thread that makes it current.
unsafe impl Send for Context {}
// SAFETY: as above; the driver serialises what needs it.
unsafe impl Sync for Context {}

impl Context {
    fn make_current(self) -> Result<()> {
        // SAFETY: the context was retained in `CudaUpload::new` and lives until the process ends.
        unsafe { result::ctx::set_current(self.0) }.map_err(failed)
    }
}

#[derive(Debug, Clone, Copy)]
struct CopyStream(sys::CUstream);

// SAFETY: a stream handle may be used from any thread in whose context it was made.
unsafe impl Send for CopyStream {}
// SAFETY: as above; the driver serialises what needs it.
unsafe impl Sync for CopyStream {}

/// A region of device memory that belongs to cubecl's pool and is given back to it.
#[derive(Debug)]
pub(crate) struct CudaMemory {
    handle: Handle,
    len: u64,
    address: sys::CUdeviceptr,
}

impl CudaUpload {
    pub(super) fn new(device: &CudaDevice, pin: bool) -> Result<Self> {
        let client = CudaRuntime::client(device);
        let ordinal = i32::try_from(device.index).unwrap_or(i32::MAX);
        // SAFETY: the driver was initialised by the client above; the context stays retained.
        let context = Context(
            unsafe { result::primary_ctx::retain(result::device::get(ordinal).map_err(failed)?) }.map_err(failed)?,
        );
        context.make_current()?;
        let stream = CopyStream(result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?);
        Ok(Self { device: device.clone(), client, context, stream, pin })
    }
}

impl Upload<Cuda> for CudaUpload {
    fn has_own_memory(&self) -> bool {
        true
    }

    fn available_memory(&self) -> Result<u64> {
        self.context.make_current()?;
        let (free, _) = result::mem_get_info().map_err(failed)?;
        Ok(free as u64)
    }

    fn host_memory(&self, len: usize) -> io::Result<Box<dyn HostMemory>> {
        let pages = Pages::new(len)?;
        match self.pin {
            true => Ok(Box::new(Pinned::new(pages, self.context).map_err(io::Error::other)?)),
            false => Ok(Box::new(pages)),
        }
    }

    fn device_memory(&self, len: usize) -> Result<DeviceMemory> {
        let handle = self.client.empty(len);
        let resource = self.client.get_resource(handle.clone());
        let resource = resource.map_err(|error| Error::Device { reason: format!("{error:?}") })?;
        let address = resource.resource().ptr;
        Ok(DeviceMemory::Cuda(CudaMemory { handle, len: len as u64, address }))
    }

    fn copy(&self, unit: &Unit, from: &[u8], to: &DeviceMemory) -> Result<()> {
        let DeviceMemory::Cuda(memory) = to else { return Ok(()) };
        self.context.make_current()?;
        for tensor in &unit.tensors {
            let bytes = &from[tensor.offset..tensor.offset + tensor.len];
            assert!((tensor.device_offset + tensor.len) as u64 <= memory.len, "a unit fits its slot");
            let address = memory.address + tensor.device_offset as u64;
            // SAFETY: `address` and the bytes behind it lie inside `memory`, as asserted; both sides live until the
            // stream has been waited for below; kernels that read this memory before have ended, since the engine
            // waits for them before it gives a slot back.
            unsafe { result::memcpy_htod_async(address, bytes, self.stream.0) }.map_err(failed)?;
        }
        // SAFETY: the stream was made in `new` and lives as long as this.
        unsafe { result::stream::synchronize(self.stream.0) }.map_err(failed)
    }

    fn tensor(&self, tensor: &UnitTensor, unit: &Arrived) -> FloatTensor<Cuda> {
        let DeviceMemory::Cuda(memory) = unit.device.memory() else {
            unreachable!("units for CUDA arrive in its memory");
        };
        let (start, end) = (tensor.device_offset as u64, (tensor.device_offset + tensor.len) as u64);
        let handle = memory.handle.clone().offset_start(start).offset_end(memory.len - end);
        let shape = tensor.shape.clone().into();
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape, handle, tensor.dtype)
    }
}

/// Pages locked in memory, which the device copies from without the host.
#[derive(Debug)]
struct Pinned {
    pages: Pages,
    context: Context,
}

impl Pinned {
    fn new(mut pages: Pages, context: Context) -> Result<Self> {
        context.make_current()?;
        let portable = sys::CU_MEMHOSTREGISTER_PORTABLE;
        // SAFETY: the range is memory of our own, and is unregistered before it is given back.
        unsafe { sys::cuMemHostRegister_v2(pages.as_mut_ptr().cast(), pages.len(), portable) }
            .result()
            .map_err(failed)?;
        Ok(Self { pages, context })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: `new` registered this range; copies from it have been waited for.
            let _ = unsafe { sys::cuMemHostUnregister(self.pages.as_mut_ptr().cast()) };
        }
    }
}

impl HostMemory for Pinned {}

impl Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.pages
    }
}

fn failed(error: DriverError) -> Error {
    Error::Device { reason: error.to_string() }
}
