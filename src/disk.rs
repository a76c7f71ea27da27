//! Room on disks.

use std::path::Path;

use crate::error::{Error, Result};

/// Room that is left on a disk.
const MARGIN: u64 = 64 << 20;

/// An error if the disk under `dir`, which need not be there yet, has no room for `bytes` and a margin; where the system
/// does not tell, none.
pub(crate) fn check_room(dir: &Path, bytes: u64) -> Result<()> {
    free(existing(dir)).map_or(Ok(()), |free| enough(dir, bytes, free))
}

/// Bytes that may be written to the disk under `dir`, where the system tells.
pub(crate) fn free(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(dir).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// The nearest directory above that is there, or itself.
pub(crate) fn existing(dir: &Path) -> &Path {
    let here = |dir: &Path| dir.as_os_str().is_empty();
    let there = dir.ancestors().find(|dir| here(dir) || dir.exists()).unwrap_or(dir);
    if here(there) { Path::new(".") } else { there }
}

/// An error if `free` bytes of a disk are too few for `bytes` and a margin.
fn enough(dir: &Path, bytes: u64, free: u64) -> Result<()> {
    let needed = bytes.saturating_add(MARGIN);
    match bytes > 0 && needed > free {
        true => Err(Error::DiskFull { path: dir.to_owned(), needed, free }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_an_error_with_both_numbers() {
        let error = enough(Path::new("out"), 40 << 30, 10 << 30).unwrap_err().to_string();
        assert!(error.contains("40.1 GiB are needed") && error.contains("10.0 GiB are free"), "{error}");
        enough(Path::new("out"), 1 << 30, 2 << 30).unwrap();
        enough(Path::new("out"), 0, 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(check_room(&dir.path().join("a/b"), u64::MAX / 2), Err(Error::DiskFull { .. })));
    }
}
