use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use memmap2::MmapMut;

/// Page-aligned memory that goes back to its ring when the last view of it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Present until the slot is dropped.
    buffer: Option<MmapMut>,
    home: Option<Sender<MmapMut>>,
}

impl Slot {
    /// New memory; its pages exist once they are written.
    pub(crate) fn new(len: usize, home: Option<Sender<MmapMut>>) -> io::Result<Self> {
        let buffer = MmapMut::map_anon(len.max(1))?;
        // Advice: fewer page faults where the system can.
        #[cfg(target_os = "linux")]
        let _ = buffer.advise(memmap2::Advice::HugePage);
        Ok(Self { buffer: Some(buffer), home })
    }

    /// Memory that has been home.
    pub(crate) fn from_home(buffer: MmapMut, home: Sender<MmapMut>) -> Self {
        Self { buffer: Some(buffer), home: Some(home) }
    }

    /// Shares the memory, read-only from here on.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.as_deref_mut().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let (Some(buffer), Some(home)) = (self.buffer.take(), &self.home) {
            // A ring that is gone needs no slots.
            let _ = home.send(buffer);
        }
    }
}
