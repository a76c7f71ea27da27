//! How a unit's bytes reach the device that computes with them.

#[cfg(feature = "cuda")]
mod cuda;
mod host;

use std::fmt::Debug;
use std::io;
use std::ops::DerefMut;

use burn::tensor::ops::FloatTensor;
use leveret_models::Backend;

use crate::error::Result;
use crate::stream::Arrived;
use crate::unit::{Unit, UnitTensor};

/// Host memory that units are read into: whole pages, in the right place for the upload.
pub(crate) trait HostMemory: DerefMut<Target = [u8]> + Debug + Send + Sync {}

/// The way of weights to one device.
pub(crate) trait Upload<B: Backend>: Send + Sync {
    /// Whether the device has memory of its own, that units are copied to.
    fn has_own_memory(&self) -> bool;

    /// Bytes that can be had of the memory that the device computes in.
    fn available_memory(&self) -> Result<u64>;

    /// Host memory for a unit of up to `len` bytes.
    fn host_memory(&self, len: usize) -> io::Result<Box<dyn HostMemory>>;

    /// Device memory for a unit of up to `len` bytes. Called on the thread that computes.
    fn device_memory(&self, len: usize) -> Result<DeviceMemory>;

    /// Copies the tensors of a unit from where they were read and waits until they are there. Called on the thread
    /// that uploads.
    fn copy(&self, unit: &Unit, from: &[u8], to: &DeviceMemory) -> Result<()>;

    /// The tensor at its place in a unit that has arrived.
    fn tensor(&self, tensor: &UnitTensor, unit: &Arrived) -> FloatTensor<B>;
}

/// Memory of a device with memory of its own.
#[derive(Debug)]
pub(crate) enum DeviceMemory {
    /// None: tensors lie in host memory, or the backend copies what they are made from.
    Host,
    #[cfg(feature = "cuda")]
    Cuda(cuda::CudaMemory),
}

/// The best way of weights to `device`: CUDA has its own, any other backend the portable one.
pub(crate) fn to<B: Backend>(device: &B::Device, pin: bool) -> Result<Box<dyn Upload<B>>> {
    #[cfg(feature = "cuda")]
    {
        use std::any::Any;
        if let Some(device) = (device as &dyn Any).downcast_ref() {
            let upload: Box<dyn Upload<burn::backend::Cuda>> = Box::new(cuda::CudaUpload::new(device, pin)?);
            let upload: Box<dyn Any> = Box::new(upload);
            if let Ok(upload) = upload.downcast::<Box<dyn Upload<B>>>() {
                return Ok(*upload);
            }
        }
    }
    let _ = pin;
    Ok(Box::new(host::HostUpload::<B>::new(device)))
}
