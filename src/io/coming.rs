use std::collections::HashMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;

/// A file whose bytes are still on their way.
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "only the hub has such files"))]
pub(crate) trait Coming: Debug + Send + Sync {
    /// The bytes that it will have.
    fn len(&self) -> u64;

    /// Whether all of them are there, under the file's own name.
    fn is_whole(&self) -> bool;

    /// Fills `buffer` from `offset` on; waits until the bytes are there, or will not come, or `is_over` says that nobody
    /// waits any more.
    fn read(&self, offset: u64, buffer: &mut [u8], is_over: &dyn Fn() -> bool) -> Result<()>;
}

/// Files on their way, by name.
pub(crate) type ComingFiles = HashMap<String, Arc<dyn Coming>>;

/// A checkpoint's directory, where some files of weights may still be on their way.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) coming: ComingFiles,
}
