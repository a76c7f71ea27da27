use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, RecvError, Sender, channel};

use bytes::Bytes;

use crate::error::Result;
use crate::upload::{DeviceMemory, Event, HostMemory};

/// Host memory of a ring, or of none, to be written.
#[derive(Debug)]
pub(crate) struct HostSlot {
    /// Present until the slot is dropped.
    memory: Option<Box<dyn HostMemory>>,
    home: Option<Sender<Box<dyn HostMemory>>>,
}

/// A fixed set of host memories, which come back when they are dropped.
pub(crate) struct HostRing {
    home: Sender<Box<dyn HostMemory>>,
    free: Receiver<Box<dyn HostMemory>>,
}

impl HostRing {
    pub(crate) fn new(memories: impl IntoIterator<Item = Box<dyn HostMemory>>) -> Self {
        let (home, free) = channel();
        memories.into_iter().for_each(|memory| drop(home.send(memory)));
        Self { home, free }
    }

    /// The next that is free; waits for it.
    pub(crate) fn take(&self) -> Result<HostSlot, RecvError> {
        Ok(self.lend(self.free.recv()?))
    }

    /// One that is free, if there is one.
    pub(crate) fn try_take(&self) -> Option<HostSlot> {
        Some(self.lend(self.free.try_recv().ok()?))
    }

    /// Memory that comes back to this ring, from now on a part of it.
    pub(crate) fn lend(&self, memory: Box<dyn HostMemory>) -> HostSlot {
        HostSlot { memory: Some(memory), home: Some(self.home.clone()) }
    }
}

impl HostSlot {
    /// Memory that belongs to no ring.
    pub(crate) fn alone(memory: Box<dyn HostMemory>) -> Self {
        Self { memory: Some(memory), home: None }
    }

    /// Puts other memory in place of this one.
    pub(crate) fn try_map(
        mut self,
        map: impl FnOnce(Box<dyn HostMemory>) -> Result<Box<dyn HostMemory>>,
    ) -> Result<Self> {
        self.memory = self.memory.take().map(map).transpose()?;
        Ok(self)
    }

    /// Frees the memory, which does not come back to its ring.
    pub(crate) fn free(mut self) {
        self.memory = None;
    }

    /// Shares the memory, read-only from here on; it goes home with the last view of it.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for HostSlot {
    fn drop(&mut self) {
        if let (Some(memory), Some(home)) = (self.memory.take(), &self.home) {
            // A ring that is gone needs no memory.
            let _ = home.send(memory);
        }
    }
}

impl Deref for HostSlot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().expect("a slot has its memory until it is dropped")
    }
}

impl DerefMut for HostSlot {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().expect("a slot has its memory until it is dropped")
    }
}

impl AsRef<[u8]> for HostSlot {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Device memory of one unit, and what has to end before another may be copied there.
type Returned = (DeviceMemory, Box<dyn Event>);

/// Device memory of one unit.
///
/// When it is dropped, on the thread that computed with it, everything that this thread has told the device to compute
/// so far is what the memory's next user waits for: so it is never overwritten while it is read.
#[derive(Debug)]
pub(crate) struct DeviceSlot {
    /// Present until the slot is dropped.
    memory: Option<DeviceMemory>,
    home: Option<Sender<Returned>>,
}

/// A fixed set of device memories, which come back when they are dropped.
pub(crate) struct DeviceRing {
    home: Sender<Returned>,
    free: Receiver<Returned>,
    /// Those that nobody has used yet.
    fresh: Vec<DeviceMemory>,
}

impl DeviceRing {
    pub(crate) fn new(fresh: Vec<DeviceMemory>) -> Self {
        let (home, free) = channel();
        Self { home, free, fresh }
    }

    /// Adds memory that nobody has used yet.
    pub(crate) fn add(&mut self, memory: DeviceMemory) {
        self.fresh.push(memory);
    }

    /// The next that is free; waits for it, and for the kernels that read it.
    pub(crate) fn take(&mut self) -> Result<DeviceSlot> {
        let memory = match self.fresh.pop() {
            Some(memory) => memory,
            None => {
                let (memory, read) = self.free.recv().map_err(|_| crate::error::Error::ReaderStopped)?;
                read.wait()?;
                memory
            }
        };
        Ok(DeviceSlot { memory: Some(memory), home: Some(self.home.clone()) })
    }
}

impl DeviceSlot {
    /// Memory that belongs to no ring.
    pub(crate) fn alone(memory: DeviceMemory) -> Self {
        Self { memory: Some(memory), home: None }
    }

    /// Frees the memory, which does not come back to its ring.
    pub(crate) fn free(mut self) {
        self.memory = None;
    }

    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read for devices with memory of their own"))]
    pub(crate) fn memory(&self) -> &DeviceMemory {
        self.memory.as_ref().expect("a slot has its memory until it is dropped")
    }
}

impl Drop for DeviceSlot {
    fn drop(&mut self) {
        if let (Some(memory), Some(home)) = (self.memory.take(), &self.home) {
            let read = memory.computed();
            // A ring that is gone needs no memory.
            let _ = home.send((memory, read));
        }
    }
}
