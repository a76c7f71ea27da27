use std::sync::Arc;

use super::arrival::Arrival;
use crate::error::{AtPath, Error, Result};
use crate::io::{Coming, read_at};

/// A shard of which the header is there, and the rest as soon as it is waited for.
#[derive(Debug)]
pub(super) struct ComingFile {
    pub(super) arrival: Arc<Arrival>,
    pub(super) index: usize,
    pub(super) bytes: u64,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
}

impl Coming for ComingFile {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn is_whole(&self) -> bool {
        self.arrival.is_whole(self.index)
    }

    fn read(&self, offset: u64, buffer: &mut [u8], is_over: &dyn Fn() -> bool) -> Result<()> {
        let end = offset + buffer.len() as u64;
        if let Some(bytes) = self.head.get(offset as usize..end as usize) {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        let file = self.arrival.wait_for(self.index, end, is_over)?;
        let path = self.arrival.path(self.index);
        match read_at(&file, offset, buffer).at(path)? == buffer.len() {
            true => Ok(()),
            false => Err(Error::Changed { path: path.to_owned() }),
        }
    }
}
