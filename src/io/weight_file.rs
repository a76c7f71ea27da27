use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::Coming;
use super::direct::{self, BLOCK, PageCache};
use crate::error::{AtPath, Error, Result};

/// A file of weights, opened once and expected never to change.
#[derive(Debug)]
pub(crate) struct WeightFile {
    path: PathBuf,
    /// Set once the file is whole.
    opened: OnceLock<Opened>,
    coming: Option<Arc<dyn Coming>>,
}

/// A file that is whole.
#[derive(Debug)]
struct Opened {
    file: File,
    direct: Option<File>,
    page_cache: Option<PageCache>,
    stamp: Stamp,
}

/// What tells that a file is no longer the one that was opened.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl WeightFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let opened = Opened::open(path)?;
        Ok(Self { path: path.to_owned(), opened: OnceLock::from(opened), coming: None })
    }

    /// A file that will be at `path` when all of it has come.
    pub(crate) fn coming(path: &Path, coming: Arc<dyn Coming>) -> Self {
        Self { path: path.to_owned(), opened: OnceLock::new(), coming: Some(coming) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        match (&self.coming, self.opened.get()) {
            (Some(coming), None) => coming.len(),
            (_, opened) => opened.map_or(0, |opened| opened.stamp.len),
        }
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.opened.get().is_some() || self.coming.as_ref().is_some_and(|coming| coming.is_whole())
    }

    /// Fills `buffer` from `offset` on, by way of the page cache.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_unless(&|| false, offset, buffer)
    }

    /// The same, without waiting for bytes that are still coming once `is_over` says that nobody wants them.
    pub(crate) fn read_unless(&self, is_over: &dyn Fn() -> bool, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let opened = match self.source()? {
            Source::Opened(opened) => opened,
            Source::Coming(coming) => return coming.read(offset, buffer, is_over),
        };
        match read_at(&opened.file, offset, buffer) {
            Ok(read) if read == buffer.len() => Ok(()),
            Ok(_) => Err(Error::Changed { path: self.path.clone() }),
            Err(error) => Err(error).at(&self.path),
        }
    }

    /// Fills `buffer` from `offset` on, up to the file's end, past the page cache unless the bytes are there; waits for
    /// none once `is_over`.
    ///
    /// The offset, the length and the address of the buffer are multiples of [`BLOCK`].
    pub(crate) fn read_blocks(&self, is_over: &dyn Fn() -> bool, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let wanted = self.len_from(offset, buffer.len());
        let opened = match self.source()? {
            Source::Opened(opened) => opened,
            Source::Coming(coming) => return coming.read(offset, &mut buffer[..wanted], is_over),
        };
        let cached = self.is_cached(offset, buffer.len());
        let direct = opened.direct.as_ref().filter(|_| !cached);
        // A file system may open a file for direct reads and refuse them: then the cache is the way.
        let read = direct.and_then(|file| read_at(file, offset, buffer).ok()).unwrap_or(0);
        if read >= wanted {
            return Ok(());
        }
        self.read(offset + read as u64, &mut buffer[read..wanted])?;
        if !cached {
            direct::forget(&opened.file, offset, buffer.len());
        }
        Ok(())
    }

    /// Whether the page cache has nearly all of `len` bytes from `offset` on, as far as the system tells.
    pub(crate) fn is_cached(&self, offset: u64, len: usize) -> bool {
        let cache = self.opened.get().and_then(|opened| opened.page_cache.as_ref());
        cache.is_some_and(|cache| cache.holds(offset, self.len_from(offset, len)))
    }

    /// How many of `len` bytes from `offset` on the file has.
    fn len_from(&self, offset: u64, len: usize) -> usize {
        (len as u64).min(self.len().saturating_sub(offset)) as usize
    }

    /// An error if the file has been written or shortened since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let Some(opened) = self.opened.get() else { return Ok(()) };
        match Stamp::new(&opened.file.metadata().at(&self.path)?) == opened.stamp {
            true => Ok(()),
            false => Err(Error::Changed { path: self.path.clone() }),
        }
    }

    /// Where bytes are read from at present.
    fn source(&self) -> Result<Source<'_>> {
        if let Some(coming) = &self.coming
            && self.opened.get().is_none()
        {
            if !coming.is_whole() {
                return Ok(Source::Coming(&**coming));
            }
            // Several threads may come here at once: one of them is first.
            let _ = self.opened.set(Opened::open(&self.path)?);
        }
        self.opened.get().map(Source::Opened).ok_or_else(|| Error::Changed { path: self.path.clone() })
    }
}

enum Source<'a> {
    Opened(&'a Opened),
    Coming(&'a dyn Coming),
}

impl Opened {
    fn open(path: &Path) -> Result<Self> {
        // Asked by name first: to open a pipe would wait for ever.
        if !std::fs::metadata(path).at(path)?.is_file() {
            return Err(Error::Header { path: path.to_owned(), reason: "not a regular file".to_owned() });
        }
        let file = File::open(path).at(path)?;
        Ok(Self {
            stamp: Stamp::new(&file.metadata().at(path)?),
            direct: direct::open(path),
            page_cache: PageCache::of(path, &file),
            file,
        })
    }
}

/// Reads until the buffer is full, the file ends, or a direct read stops in the middle of a block.
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match positioned_read(file, offset + read as u64, &mut buffer[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if read > 0 && !read.is_multiple_of(BLOCK) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(unix)]
fn positioned_read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn positioned_read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_to_the_end_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        let bytes: Vec<u8> = (0..3 * BLOCK + 100).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = WeightFile::open(&path).unwrap();
        let mut buffer = memmap2::MmapMut::map_anon(4 * BLOCK).unwrap();
        file.read_blocks(&|| false, 0, &mut buffer).unwrap();
        assert_eq!(&buffer[..bytes.len()], &bytes);
        file.check_unchanged().unwrap();
    }

    #[test]
    fn a_shortened_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        std::fs::write(&path, vec![7; 2 * BLOCK]).unwrap();
        let file = WeightFile::open(&path).unwrap();
        std::fs::write(&path, vec![7; BLOCK / 2]).unwrap();
        let mut buffer = memmap2::MmapMut::map_anon(2 * BLOCK).unwrap();
        assert!(matches!(file.read_blocks(&|| false, 0, &mut buffer), Err(Error::Changed { .. })));
        assert!(matches!(file.check_unchanged(), Err(Error::Changed { .. })));
    }
}
