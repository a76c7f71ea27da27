//! Whether files are read past the page cache; asked by reading one, since some file systems only refuse then.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use rustix::fs::{Mode, OFlags};

use super::Finding;
use crate::io::{BLOCK, open_direct};

/// What `statfs` calls a file system in memory.
const TMPFS: u64 = 0x0102_1994;

const SUBJECT: &str = "direct reads";

/// Whether the file system under `dir` takes direct reads.
pub(super) fn finding(dir: &Path) -> Finding {
    // It takes them, and copies from memory.
    if rustix::fs::statfs(dir).is_ok_and(|system| system.f_type as u64 == TMPFS) {
        return Finding::note(SUBJECT, "the files here lie in RAM (tmpfs), beside what is read of them")
            .next("keep checkpoints on a disk");
    }
    match are_taken(dir) {
        Some(true) => Finding::ok(SUBJECT, "taken by the file system"),
        Some(false) => Finding::note(SUBJECT, "refused by the file system: weights go through the page cache")
            .next("keep checkpoints on a local disk, such as ext4 or xfs"),
        None => Finding::note(SUBJECT, "not tried: there is no file here that can be read, and none can be made"),
    }
}

/// None where there is no file to try it with.
fn are_taken(dir: &Path) -> Option<bool> {
    if let Some(path) = largest_file(dir) {
        return Some(reads_directly(&path));
    }
    let file = nameless_file(dir)?;
    Some(reads_directly(format!("/proc/self/fd/{}", file.as_raw_fd()).as_ref()))
}

/// The largest file that can be read.
fn largest_file(dir: &Path) -> Option<PathBuf> {
    let paths = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let sized = paths.filter_map(|path| {
        let metadata = fs::metadata(&path).ok()?;
        (metadata.is_file() && metadata.len() > 0).then_some((metadata.len(), path))
    });
    let mut files: Vec<_> = sized.collect();
    files.sort_by_key(|(len, _)| Reverse(*len));
    files.into_iter().map(|(_, path)| path).find(|path| File::open(path).is_ok())
}

/// A block in a file that is gone when it is closed.
fn nameless_file(dir: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).ok()?);
    file.write_all(&[0; BLOCK]).ok()?;
    Some(file)
}

fn reads_directly(path: &Path) -> bool {
    let Ok(mut block) = MmapMut::map_anon(BLOCK) else { return false };
    open_direct(path).is_some_and(|mut file| file.read(&mut block).is_ok())
}
