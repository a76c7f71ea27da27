use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::deviation::Deviation;
use super::shard::{self, Shard};
use crate::disk;
use crate::error::{AtPath, Error, Result};
use crate::io::read_small;

/// The directory that is packed into.
#[derive(Debug)]
pub(super) struct Target {
    dir: PathBuf,
}

/// A small file that a packed checkpoint has.
#[derive(Debug)]
pub(super) struct SmallFile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// What files are called until they are whole.
const PARTIAL: &str = ".partial";

impl Target {
    /// Refuses a directory that is the source or lies in it.
    pub(super) fn new(dir: &Path, source: &Path) -> Result<Self> {
        let (source, end) = (fs::canonicalize(source).at(source)?, disk::existing(dir));
        let inside = fs::canonicalize(end).at(end)?.starts_with(&source);
        if inside {
            let reason = format!("is the source or lies in it ({}); choose another directory", source.display());
            return Err(Error::Unsupported { path: dir.to_owned(), reason });
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Which shards an earlier run has left whole, with their deviations; refuses files of other origin.
    ///
    /// `last` are the files that are written when all shards are there: the index and the config.
    pub(super) fn survey(
        &self,
        shards: &[Shard],
        small: &[SmallFile],
        last: &[SmallFile],
        source: &str,
    ) -> Result<Vec<Option<Deviation>>> {
        let mut whole = vec![None; shards.len()];
        let complete = last.iter().all(|file| self.dir.join(&file.name).exists());
        for name in self.names()? {
            let refuse = |reason| Err(Error::NotEmpty { path: self.dir.clone(), found: name.clone(), reason });
            let path = self.dir.join(&name);
            if let Some(index) = shards.iter().position(|shard| shard.name == name) {
                let header = header(&path).at(&path)?;
                let of = header.as_deref().and_then(shard::source_of);
                match (&of, header) {
                    (Some(of), Some(header)) if of == source => {
                        let len = fs::metadata(&path).at(&path)?.len();
                        whole[index] = shards[index].deviation_in(&header).filter(|_| len == shards[index].len);
                    }
                    (Some(_), _) if complete => return refuse("was packed from something else, or otherwise"),
                    // Left by a run that never ended, from a source that has changed since, or torn.
                    (Some(_), _) | (None, None) => {}
                    (None, Some(_)) => return refuse("was not written by packing"),
                }
            } else if let Some(file) = small.iter().chain(last).find(|file| file.name == name) {
                if read_small(&path).at(&path)? != file.bytes {
                    return refuse("is not what would be written");
                }
            } else if !self.is_partial(&name, shards, small, last) {
                return refuse("does not belong to this checkpoint packed in this way");
            }
        }
        Ok(whole)
    }

    /// An error if the disk has no room for `bytes` more.
    pub(super) fn check_space(&self, bytes: u64) -> Result<()> {
        disk::check_room(&self.dir, bytes)
    }

    /// Makes the directory, if need be, and keeps other runs out of it for as long as the answer lives.
    pub(super) fn lock(&self) -> Result<Option<File>> {
        fs::create_dir_all(&self.dir).at(&self.dir)?;
        if !cfg!(unix) {
            return Ok(None);
        }
        let dir = File::open(&self.dir).at(&self.dir)?;
        match dir.try_lock() {
            Ok(()) => Ok(Some(dir)),
            Err(TryLockError::WouldBlock) => {
                let reason = "another run is packing into it; wait until that has ended".to_owned();
                Err(Error::Unsupported { path: self.dir.clone(), reason })
            }
            Err(TryLockError::Error(error)) => Err(error).at(&self.dir),
        }
    }

    /// Removes what a run that was ended has left half written.
    pub(super) fn remove_partial(&self) -> Result<()> {
        let partial = |name: &String| name.ends_with(PARTIAL);
        self.names()?.iter().filter(|name| partial(name)).try_for_each(|name| self.remove(name))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at(&path),
            _ => Ok(()),
        }
    }

    /// Lets `write` make a file under another name, and gives it its own when it is whole.
    pub(super) fn whole<T>(&self, name: &str, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let (partial, path) = (self.dir.join(format!("{name}{PARTIAL}")), self.dir.join(name));
        let written = write(&partial)?;
        fs::rename(&partial, &path).at(&path)?;
        // Names are kept by the directory, which has to reach the disk as well.
        #[cfg(unix)]
        File::open(&self.dir).and_then(|dir| dir.sync_all()).at(&self.dir)?;
        Ok(written)
    }

    /// Whether a file is there, of these bytes as `survey` has seen.
    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at(&self.dir)?,
        };
        let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let mut names = entries.map(name).collect::<std::io::Result<Vec<_>>>().at(&self.dir)?;
        names.sort_unstable();
        Ok(names)
    }

    fn is_partial(&self, name: &str, shards: &[Shard], small: &[SmallFile], last: &[SmallFile]) -> bool {
        let whole = name.strip_suffix(PARTIAL);
        let files = small.iter().chain(last).map(|file| &file.name);
        shards.iter().map(|shard| &shard.name).chain(files).any(|name| whole == Some(name))
    }
}

impl SmallFile {
    /// Writes it to `path`, and to the disk.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.bytes).and_then(|()| File::open(path)?.sync_all()).at(path)
    }
}

/// Length and header of a safetensors file; `None` if it ends before that.
fn header(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    const LARGEST: u64 = 100_000_000;
    let (mut length, whole) = ([0; 8], fs::metadata(path)?.len());
    // A pipe has none, and would be waited for if it were opened.
    if whole < 8 {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    file.read_exact(&mut length)?;
    let len = u64::from_le_bytes(length);
    if len > LARGEST || len + 8 > whole {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    Ok(Some([length.as_slice(), &bytes].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_no_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Target::new(&dir.path().join("a/b"), &std::env::temp_dir().join("..")).is_err());
    }
}
