use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// More than any text beside a checkpoint has: what is longer is not what it says it is.
const LONGEST: u64 = 1 << 30;

/// The bytes of a file that is read whole: configs, tokenizers, templates.
///
/// Only a regular file is opened: a pipe would be waited for, and a device might never end.
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "longer than any file of its kind")),
        false => Ok(bytes),
    }
}

/// The text of such a file.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_small(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}
