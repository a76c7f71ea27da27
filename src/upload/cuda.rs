//! CUDA's own way: page-locked host memory, device memory made once, and a stream for copies alone.

mod context;
mod event;
mod memory;
mod pinned;
mod probe;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use burn::backend::Cuda;
use burn::backend::cuda::CudaDevice;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_cubecl::tensor::CubeTensor;
use bytes::Bytes;
use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::stream_id::StreamId;
use cudarc::driver::{DriverError, result, sys};

use self::context::{Context, CopyStream};
use self::event::CopyEvent;
pub(crate) use self::memory::CudaMemory;
use self::pinned::Pinned;
pub(crate) use self::probe::{Gpu, Toolkit, driver_version, gpus, toolkit};
use super::host::Pages;
use super::in_flight::InFlight;
use super::{DeviceMemory, HostMemory, Upload};
use crate::error::{Error, Result};
use crate::stream::{Arrived, DeviceSlot};
use crate::unit::UnitTensor;

/// The way to one CUDA device.
pub(super) struct CudaUpload {
    device: CudaDevice,
    client: ComputeClient<CudaRuntime>,
    context: Context,
    stream: CopyStream,
    pin: bool,
}

impl CudaUpload {
    pub(super) fn new(device: &CudaDevice, pin: bool) -> Result<Self> {
        let client = start(device.index)?;
        let context = Context::primary(device.index)?;
        let stream = CopyStream::new(context)?;
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

    fn peak_memory(&self) -> Option<u64> {
        self.context.of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)
    }

    fn taken_memory(&self) -> Option<u64> {
        self.context.of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
    }

    /// Kernels and memory belong to the stream of the thread that asks for them: with one stream for all, a model may
    /// move between threads.
    fn enter(&self, run: &mut dyn FnMut()) {
        StreamId { value: u64::from(u32::MAX) }.executes(run);
    }

    fn host_memory(&self, len: usize) -> io::Result<Box<dyn HostMemory>> {
        Ok(Box::new(Pages::new(len)?))
    }

    fn page_lock(&self, memory: Box<dyn HostMemory>) -> Result<Box<dyn HostMemory>> {
        match self.pin {
            true => Ok(Box::new(Pinned::new(memory, self.context)?)),
            false => Ok(memory),
        }
    }

    fn device_memory(&self, len: usize) -> Result<DeviceMemory> {
        let free = self.available_memory()?;
        match free < len as u64 {
            true => Err(Error::DeviceFull { wanted: len as u64, free }),
            false => CudaMemory::new(&self.client, len).map(DeviceMemory::Cuda),
        }
    }

    fn copy(&self, from: Bytes, to: &Arc<DeviceSlot>, segments: &[(Range<usize>, usize)]) -> Result<InFlight> {
        let memory = to.memory().cuda();
        self.context.make_current()?;
        let (event, started) = (CopyEvent::new(self.context, self.stream, from.len())?, Instant::now());
        let mut copied = Ok(());
        for (range, place) in segments {
            let (bytes, address) = (&from[range.clone()], memory.address(*place, range.len()));
            // SAFETY: `address` and the bytes behind it lie inside `memory`, as it has checked; `from` and `to` live
            // until the event has been waited for, since the `InFlight` below holds them; kernels that read this memory
            // before have ended, since whoever took `to` from its ring has waited for them.
            copied = copied.and_then(|()| unsafe { result::memcpy_htod_async(address, bytes, self.stream.raw()) });
        }
        let recorded = event.record();
        if copied.is_err() || recorded.is_err() {
            // What is on its way must arrive before its ends may go.
            self.stream.synchronise()?;
        }
        copied.map_err(failed)?;
        Ok(InFlight::new(Box::new(recorded?), started, from, to.clone()))
    }

    fn floats(&self, tensor: &UnitTensor, unit: &Arrived) -> FloatTensor<Cuda> {
        self.view(tensor, unit)
    }

    fn ints(&self, tensor: &UnitTensor, unit: &Arrived) -> IntTensor<Cuda> {
        self.view(tensor, unit)
    }
}

impl CudaUpload {
    /// A tensor where it lies in device memory.
    fn view(&self, tensor: &UnitTensor, unit: &Arrived) -> CubeTensor<CudaRuntime> {
        let slot = unit.device.as_ref().expect("units for CUDA arrive in its memory");
        let handle = slot.memory().cuda().view(tensor.device_offset, tensor.len);
        let shape = tensor.shape.clone().into();
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape, handle, tensor.dtype)
    }
}

/// Starts a device.
pub(super) fn start(index: usize) -> Result<ComputeClient<CudaRuntime>> {
    // Asked first: where something is missing, the client below panics or computes nothing.
    probe::check(index)?;
    std::panic::catch_unwind(|| CudaRuntime::client(&CudaDevice::new(index)))
        .map_err(|_| Error::Device { reason: format!("cuda:{index} could not be started") })
}

fn failed(error: DriverError) -> Error {
    Error::Device { reason: error.to_string() }
}

/// An answer of the driver as an error.
fn checked(answer: sys::CUresult) -> Result<()> {
    answer.result().map_err(failed)
}
