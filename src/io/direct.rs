//! Reads past the page cache, and the question whether they are needed: what the platform must offer for both.
//!
//! A cyclic walk over a file larger than memory gets no hit from the page cache and throws everything else out of it;
//! so what streams is read past it, except where its pages are there already.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

/// Offsets, lengths and addresses of direct reads are multiples of this.
pub(crate) const BLOCK: usize = 4096;

/// Opens `path` for direct reads, where the platform and the file system have them.
#[cfg(target_os = "linux")]
pub(crate) fn open(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open(_path: &Path) -> Option<File> {
    None
}

/// Tells the system that these pages will not be wanted again.
#[cfg(target_os = "linux")]
pub(super) fn forget(file: &File, offset: u64, len: usize) {
    // Advice; a refusal changes nothing but the cache.
    let _ = rustix::fs::fadvise(file, offset, (len as u64).try_into().ok(), rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn forget(_file: &File, _offset: u64, _len: usize) {}

/// Which pages of a file lie in the page cache.
#[derive(Debug)]
pub(super) struct PageCache {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "asked on Linux only"))]
    map: Mmap,
}

impl PageCache {
    /// None where the system does not tell: it answers truthfully only to those who may write the file.
    pub(super) fn of(path: &Path, file: &File) -> Option<Self> {
        #[cfg(target_os = "linux")]
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).ok()?;
        let _ = path;
        // SAFETY: the bytes of this map are never read, only its addresses are asked about; so another process that
        // writes or shortens the file changes nothing here.
        let map = unsafe { Mmap::map(file) }.ok()?;
        Some(Self { map })
    }

    /// Whether nearly all of `len` bytes from `offset` on are there, so that reading them costs a copy and no wait.
    #[cfg(target_os = "linux")]
    pub(super) fn holds(&self, offset: u64, len: usize) -> bool {
        let start = offset as usize / BLOCK * BLOCK;
        let end = (offset as usize + len).min(self.map.len());
        if start >= end {
            return false;
        }
        let mut pages = vec![0u8; (end - start).div_ceil(BLOCK)];
        // SAFETY: `start .. end` lies inside the map, its start is a multiple of the page size since both the map and
        // `start` are, and `pages` has a byte for each page of the range.
        let answer = unsafe {
            libc::mincore(self.map.as_ptr().add(start).cast_mut().cast(), end - start, pages.as_mut_ptr().cast())
        };
        let there = pages.iter().filter(|page| **page & 1 == 1).count();
        answer == 0 && there * 16 >= pages.len() * 15
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn holds(&self, _offset: u64, _len: usize) -> bool {
        true
    }
}
