use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::checksum::Checksum;
use super::client::{Bytes, Client, Reply, lost, text, without_query};
use super::failure::Failure;
use crate::error::{AtPath, Error, Result};

/// The bytes of one file in the cache, or their place.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) bytes: u64,
    pub(super) etag: String,
    /// Where the bytes lie when all are there.
    pub(super) path: PathBuf,
    /// The file's name among those of its commit, a link.
    pub(super) pointer: PathBuf,
    pub(super) lock: PathBuf,
}

/// Who is told how a download goes, and may end it.
pub(super) trait Watch {
    /// Nobody wants the file any more.
    fn is_over(&self) -> bool;
    /// The partial file, and how many bytes it has.
    fn starts(&self, file: File, there: u64);
    /// So many bytes more are in the file.
    fn arrived(&self, bytes: u64);
    /// The connection was cut.
    fn retries(&self, reason: &str);
    /// Another process is at it.
    fn waits(&self);
}

/// What is written at once: readers of the file see it then.
const CHUNK: usize = 256 << 10;

impl Blob {
    /// Whether all bytes are there.
    pub(super) fn is_whole(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() == self.bytes)
            || fs::metadata(&self.pointer).is_ok_and(|file| file.len() == self.bytes)
    }

    /// Bytes that an earlier download has left.
    pub(super) fn there(&self) -> u64 {
        match self.is_whole() {
            true => self.bytes,
            false => fs::metadata(self.partial()).map_or(0, |file| file.len()).min(self.bytes),
        }
    }

    /// Bytes on their way lie here, from the first on and without a gap.
    fn partial(&self) -> PathBuf {
        self.path.with_file_name(format!("{}.incomplete", self.etag))
    }

    /// Downloads what is not there; goes on after cuts. Ends early, without an error, when nobody wants it any more.
    pub(super) fn download(&self, client: &Client, watch: &dyn Watch) -> Result<(), Failure> {
        self.make_whole(client, watch).and_then(|()| match self.is_whole() {
            true => self.link().map_err(Failure::Final),
            false => Ok(()),
        })
    }

    fn make_whole(&self, client: &Client, watch: &dyn Watch) -> Result<(), Failure> {
        if self.is_whole() {
            return Ok(());
        }
        let _lock = self.lock(watch).map_err(Failure::Final)?;
        // Another process may have been at it until now.
        if self.is_whole() {
            return Ok(());
        }
        let partial = self.partial();
        let mut file = self.open_partial(&partial).map_err(Failure::Final)?;
        let mut there = file.metadata().at(&partial).map_err(Failure::Final)?.len();
        if there < self.bytes {
            let copy = file.try_clone().at(&partial).map_err(Failure::Final)?;
            watch.starts(copy, there);
        }
        let mut sum = Checksum::named(&self.etag);
        sum.add_file(&file, there, || watch.is_over()).at(&partial).map_err(Failure::Final)?;
        if watch.is_over() {
            return Ok(());
        }
        if there == self.bytes {
            self.check_sum(&sum)?;
        }
        let mut failures = 0;
        while there < self.bytes {
            let before = there;
            let Err(failure) = self.append(client, &mut file, (&mut there, &mut sum), watch) else { continue };
            if watch.is_over() {
                return Ok(());
            }
            failures = if there > before { 0 } else { failures + 1 };
            if !failure.is_passing() || failures >= client.tries() {
                return Err(failure);
            }
            watch.retries(&failure.reason());
            client.wait(failures);
        }
        file.sync_data().and_then(|()| fs::rename(&partial, &self.path)).at(&partial).map_err(Failure::Final)
    }

    /// Asks for what is missing and appends it, until the connection ends.
    fn append(
        &self,
        client: &Client,
        file: &mut File,
        (there, sum): (&mut u64, &mut Checksum),
        watch: &dyn Watch,
    ) -> Result<(), Failure> {
        let reply = client.get(&self.url, Some(Bytes::From(*there)))?;
        let skip = self.check(&reply, *there)?;
        let mut body = reply.response.into_body().into_with_config().limit(u64::MAX).reader();
        std::io::copy(&mut (&mut body).take(skip), &mut std::io::sink()).map_err(|error| lost(&self.url, &error))?;
        let mut buffer = vec![0; CHUNK];
        while *there < self.bytes && !watch.is_over() {
            let room = buffer.len().min((self.bytes - *there) as usize);
            let (read, end) = fill(&mut body, &mut buffer[..room]);
            file.write_all(&buffer[..read]).at(self.partial()).map_err(Failure::Final)?;
            *there += read as u64;
            sum.add(&buffer[..read]);
            if *there == self.bytes {
                // Whoever waits for the last bytes is not given them before all are known to be right.
                self.check_sum(sum)?;
            }
            watch.arrived(read as u64);
            end.map_err(|error| lost(&self.url, &error))?;
        }
        match *there < self.bytes {
            true => Err(lost(&self.url, &"it is not wanted any more")),
            false => Ok(()),
        }
    }

    /// Whether an answer is of this file; how many of its first bytes are there already.
    fn check(&self, reply: &Reply, there: u64) -> Result<u64, Failure> {
        let url = || without_query(&self.url);
        // A mirror may use names of its own, which say nothing.
        let is_hash = |etag: &str| etag.len() == self.etag.len() && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(found) = reply.etag.as_ref().filter(|etag| **etag != self.etag && is_hash(etag)) {
            let (expected, found) = (self.etag.clone(), found.clone());
            return Err(Failure::Final(Error::WrongBytes { url: url(), expected, found }));
        }
        let headers = reply.response.headers();
        let range = text(headers, "content-range").and_then(|range| range.strip_prefix("bytes "));
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let (start, found) = match range.and_then(|range| range.split_once('/')) {
            Some((part, whole)) => (part.split('-').next().and_then(number), number(whole)),
            None => (Some(0), text(headers, "content-length").and_then(number)),
        };
        match (start, found) {
            (_, Some(found)) if found != self.bytes => {
                Err(Failure::Final(Error::WrongLength { url: url(), expected: self.bytes, found }))
            }
            (Some(start), _) if start <= there => Ok(there - start),
            _ => Err(lost(&self.url, &"other bytes came than were asked for")),
        }
    }

    /// Removes bytes that are not those that the hub names.
    fn check_sum(&self, sum: &Checksum) -> Result<(), Failure> {
        let Some(found) = sum.other_than(&self.etag) else { return Ok(()) };
        let partial = self.partial();
        fs::remove_file(&partial).at(&partial).map_err(Failure::Final)?;
        let (path, expected) = (self.pointer.clone(), self.etag.clone());
        Err(Failure::Final(Error::Checksum { path, expected, found }))
    }

    fn open_partial(&self, partial: &Path) -> Result<File> {
        make_parent(partial)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(partial).at(partial)?;
        if file.metadata().at(partial)?.len() > self.bytes {
            file.set_len(0).at(partial)?;
        }
        Ok(file)
    }

    /// Keeps other processes from the same bytes, as long as the answer lives. Where a file system has no locks, the
    /// name alone has to do.
    fn lock(&self, watch: &dyn Watch) -> Result<File> {
        make_parent(&self.lock)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&self.lock).at(&self.lock)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            watch.waits();
            let _ = lock.lock();
        }
        Ok(lock)
    }

    /// Gives the bytes the file's name.
    pub(super) fn link(&self) -> Result<()> {
        if fs::metadata(&self.pointer).is_ok_and(|file| file.len() == self.bytes) {
            return Ok(());
        }
        make_parent(&self.pointer)?;
        // In one step: another thread or process may have made it meanwhile, and be reading by it.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}.{}-{}.link", self.etag, std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let own = self.path.with_file_name(name);
        let linked =
            link(&self.path, &own, self.name.split('/').count()).and_then(|()| fs::rename(&own, &self.pointer));
        // Two names of the same bytes are left as they are.
        let _ = fs::remove_file(&own);
        linked.at(&self.pointer)
    }
}

/// A relative link, so that a cache can be moved; a second name where there are none.
fn link(blob: &Path, pointer: &Path, depth: usize) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let up: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
        let target = up.join("blobs").join(blob.file_name().unwrap_or_default());
        match std::os::unix::fs::symlink(target, pointer) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {}
            result => return result,
        }
    }
    let _ = depth;
    fs::hard_link(blob, pointer)
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).at(parent)
}

/// Reads until the buffer is full; how much came, and whether the connection ended before.
fn fill(body: &mut impl Read, buffer: &mut [u8]) -> (usize, std::io::Result<()>) {
    let mut read = 0;
    while read < buffer.len() {
        match body.read(&mut buffer[read..]) {
            Ok(0) => return (read, Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the connection was cut"))),
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (read, Err(error)),
        }
    }
    (read, Ok(()))
}
