//! How a unit's bytes reach the device that computes with them.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod in_flight;
#[cfg(all(test, feature = "flex"))]
pub(crate) mod simulated;

use std::fmt::Debug;
use std::io;
use std::ops::{DerefMut, Range};
use std::sync::Arc;

use burn::tensor::ops::{FloatTensor, IntTensor};
use bytes::Bytes;
use leveret_models::Backend;

#[cfg(feature = "cuda")]
pub(crate) use cuda::{Gpu, Toolkit, driver_version, gpus, toolkit};
pub(crate) use in_flight::{Event, InFlight};

use crate::error::Result;
use crate::stream::{Arrived, DeviceSlot};
use crate::unit::UnitTensor;

/// Host memory that units are read into: whole pages, in the right place for the upload.
pub(crate) trait HostMemory: DerefMut<Target = [u8]> + Debug + Send + Sync {}

/// The way of weights to one device.
pub(crate) trait Upload<B: Backend>: Send + Sync {
    /// Whether the device has memory of its own, that units are copied to.
    fn has_own_memory(&self) -> bool;

    /// Bytes that can be had of a device's own memory.
    fn available_memory(&self) -> Result<u64>;

    /// The most that this process has taken of a device's own memory so far for tensors, in bytes.
    fn peak_memory(&self) -> Option<u64> {
        None
    }

    /// What this process has of a device's own memory for tensors now, in bytes, also if no tensor takes it any more.
    fn taken_memory(&self) -> Option<u64> {
        None
    }

    /// Runs what computes, as if on one and the same thread.
    fn enter(&self, run: &mut dyn FnMut()) {
        run();
    }

    /// Host memory of `len` bytes.
    fn host_memory(&self, len: usize) -> io::Result<Box<dyn HostMemory>>;

    /// Locks the pages of host memory, where that makes copies faster and is wanted.
    fn page_lock(&self, memory: Box<dyn HostMemory>) -> Result<Box<dyn HostMemory>> {
        Ok(memory)
    }

    /// Device memory of `len` bytes. Called on the thread that computes.
    fn device_memory(&self, len: usize) -> Result<DeviceMemory>;

    /// Begins to copy segments of `from`, each to its place in `to`.
    fn copy(&self, from: Bytes, to: &Arc<DeviceSlot>, segments: &[(Range<usize>, usize)]) -> Result<InFlight>;

    /// The tensor at its place in a unit that has arrived.
    fn floats(&self, tensor: &UnitTensor, unit: &Arrived) -> FloatTensor<B>;

    /// The same of integers: codes, or the scales that they share.
    fn ints(&self, tensor: &UnitTensor, unit: &Arrived) -> IntTensor<B>;
}

/// A way of weights that threads share.
pub(crate) type Shared<B> = Arc<dyn Upload<B>>;

/// Memory of a device with memory of its own.
#[derive(Debug)]
pub(crate) enum DeviceMemory {
    #[cfg(feature = "cuda")]
    Cuda(cuda::CudaMemory),
    #[cfg(all(test, feature = "flex"))]
    Simulated(simulated::SimulatedMemory),
}

impl DeviceMemory {
    /// The memory of a slot that was made for CUDA.
    #[cfg(feature = "cuda")]
    fn cuda(&self) -> &cuda::CudaMemory {
        match self {
            Self::Cuda(memory) => memory,
            #[cfg(all(test, feature = "flex"))]
            Self::Simulated(_) => unreachable!("this is not memory of a CUDA device"),
        }
    }

    /// The memory of a slot that was made for the made-up device.
    #[cfg(all(test, feature = "flex"))]
    pub(crate) fn simulated(&self) -> &simulated::SimulatedMemory {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => unreachable!("this is not memory of the made-up device"),
            Self::Simulated(memory) => memory,
        }
    }

    /// What tells when everything has ended that this thread has told the device to compute so far.
    pub(crate) fn computed(&self) -> Box<dyn Event> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref memory) => memory.computed(),
            #[cfg(all(test, feature = "flex"))]
            Self::Simulated(ref memory) => memory.computed(),
        }
    }
}

/// Whether CUDA device `index` can compute; an error says what is missing, and the next step.
#[cfg(feature = "cuda")]
pub fn check_cuda(index: usize) -> Result<()> {
    cuda::start(index).map(drop)
}

/// The best way of weights to `device`: CUDA has its own, any other backend the portable one.
pub(crate) fn to<B: Backend>(device: &B::Device, pin: bool) -> Result<Shared<B>> {
    #[cfg(feature = "cuda")]
    {
        use std::any::Any;
        if let Some(device) = (device as &dyn Any).downcast_ref() {
            let upload: Shared<burn::backend::Cuda> = Arc::new(cuda::CudaUpload::new(device, pin)?);
            let upload: Box<dyn Any> = Box::new(upload);
            if let Ok(upload) = upload.downcast::<Shared<B>>() {
                return Ok(*upload);
            }
        }
    }
    let _ = pin;
    Ok(Arc::new(host::HostUpload::<B>::new(device)))
}
