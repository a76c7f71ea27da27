use leveret_models::Backend;

use super::Shape;
use crate::error::{AtPath, Result};
use crate::stream::{DeviceRing, DeviceSlot, HostRing, HostSlot};
use crate::upload::Shared;

/// What experts are read into and uploaded to.
pub(super) struct Memory<B: Backend> {
    upload: Shared<B>,
    host: HostRing,
    host_len: usize,
    device: DeviceRing,
    device_len: usize,
    /// Device memories that there are.
    devices: usize,
}

impl<B: Backend> Memory<B> {
    /// None yet.
    pub(super) fn new(upload: Shared<B>) -> Self {
        let (host, device) = (HostRing::new([]), DeviceRing::new(Vec::new()));
        Self { upload, host, host_len: 0, device, device_len: 0, devices: 0 }
    }

    /// Whether it is of the sizes that `shape` asks for.
    pub(super) fn suits(&self, shape: &Shape) -> bool {
        (self.host_len, self.device_len) == (shape.host_len, shape.device_len)
    }

    /// Lets go of all memory that is free, and makes memory of other sizes from now on.
    pub(super) fn resize(&mut self, shape: &Shape) {
        *self = Self { host_len: shape.host_len, device_len: shape.device_len, ..Self::new(self.upload.clone()) };
    }

    /// Makes device memory up to `count`, or lets go of what is beyond that; so much has to be free.
    pub(super) fn set_devices(&mut self, count: usize) -> Result<()> {
        for _ in count..self.devices {
            self.device.take()?.free();
        }
        for _ in self.devices..count {
            self.device.add(self.upload.device_memory(self.device_len)?);
        }
        self.devices = count;
        Ok(())
    }

    /// Host memory for one expert: some that is free, else more.
    pub(super) fn host(&self) -> Result<HostSlot> {
        match self.host.try_take() {
            Some(memory) => Ok(memory),
            None => {
                let memory = self.upload.host_memory(self.host_len).at("host memory")?;
                Ok(self.host.lend(self.upload.page_lock(memory)?))
            }
        }
    }

    /// Lets go of host memory that is free.
    pub(super) fn free_host(&self) {
        while let Some(memory) = self.host.try_take() {
            memory.free();
        }
    }

    /// Device memory for one expert, of which there is some.
    pub(super) fn device(&mut self) -> Result<DeviceSlot> {
        self.device.take()
    }
}
