use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::Sender;

use bytes::Bytes;

use crate::upload::{DeviceMemory, HostMemory};

/// Something of a ring, which goes back to it when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// Present until the slot is dropped.
    content: Option<T>,
    home: Option<Sender<T>>,
}

impl<T> Slot<T> {
    /// Takes `content` out of the ring behind `home`, or out of none.
    pub(crate) fn new(content: T, home: Option<Sender<T>>) -> Self {
        Self { content: Some(content), home }
    }

    fn content(&self) -> &T {
        self.content.as_ref().expect("a slot has its content until it is dropped")
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let (Some(content), Some(home)) = (self.content.take(), &self.home) {
            // A ring that is gone needs no slots.
            let _ = home.send(content);
        }
    }
}

/// Host memory of one unit.
pub(crate) type HostSlot = Slot<Box<dyn HostMemory>>;

/// Device memory of one unit.
pub(crate) type DeviceSlot = Slot<DeviceMemory>;

impl HostSlot {
    /// Shares the memory, read-only from here on; it goes home with the last view of it.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for HostSlot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.content()
    }
}

impl DerefMut for HostSlot {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.content.as_mut().expect("a slot has its content until it is dropped")
    }
}

impl AsRef<[u8]> for HostSlot {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl DeviceSlot {
    pub(crate) fn memory(&self) -> &DeviceMemory {
        self.content()
    }
}
