use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{AllocationProperty, TensorData};
use bytes::Bytes;
use leveret_models::Backend;
use memmap2::MmapMut;

use super::{DeviceMemory, HostMemory, InFlight, Upload};
use crate::error::Result;
use crate::record::stored_dtype;
use crate::stream::{Arrived, DeviceSlot};
use crate::unit::UnitTensor;

/// The portable way: host bytes become tensors as the backend makes them, on a CPU without a copy.
pub(super) struct HostUpload<B: Backend> {
    device: B::Device,
}

impl<B: Backend> HostUpload<B> {
    pub(super) fn new(device: &B::Device) -> Self {
        Self { device: device.clone() }
    }
}

impl<B: Backend> Upload<B> for HostUpload<B> {
    fn has_own_memory(&self) -> bool {
        false
    }

    fn available_memory(&self) -> Result<u64> {
        unreachable!("units stay in host memory")
    }

    fn host_memory(&self, len: usize) -> io::Result<Box<dyn HostMemory>> {
        Ok(Box::new(Pages::new(len)?))
    }

    fn device_memory(&self, _len: usize) -> Result<DeviceMemory> {
        unreachable!("units stay in host memory")
    }

    fn copy(&self, _from: Bytes, _to: &Arc<DeviceSlot>, _segments: &[(Range<usize>, usize)]) -> Result<InFlight> {
        unreachable!("units stay in host memory")
    }

    fn floats(&self, tensor: &UnitTensor, unit: &Arrived) -> FloatTensor<B> {
        let dtype = stored_dtype::<B>(tensor.dtype, &self.device);
        B::float_from_data(data(tensor, unit).convert_dtype(dtype), &self.device)
    }

    fn ints(&self, tensor: &UnitTensor, unit: &Arrived) -> IntTensor<B> {
        B::int_from_data(data(tensor, unit), &self.device)
    }
}

/// A tensor as it lies: where its bytes are aligned, they are shared and not copied.
fn data(tensor: &UnitTensor, unit: &Arrived) -> TensorData {
    let bytes = unit.host.slice(tensor.offset..tensor.offset + tensor.len);
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(tensor.dtype.size());
    let bytes = match aligned {
        true => burn::tensor::Bytes::from_shared(bytes, AllocationProperty::Native),
        false => burn::tensor::Bytes::from_bytes_vec(bytes.to_vec()),
    };
    TensorData::from_bytes(bytes, tensor.shape.clone(), tensor.dtype)
}

/// Page-aligned memory; its pages exist once they are written.
#[derive(Debug)]
pub(super) struct Pages(MmapMut);

impl Pages {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let pages = MmapMut::map_anon(len.max(1))?;
        // Advice: fewer page faults, and direct reads twice as fast, where the system can.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Ok(Self(pages))
    }
}

impl HostMemory for Pages {}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
