use std::fs::File;
use std::io;

use sha2::{Digest, Sha256};

use crate::io::read_at;

/// The SHA-256 of a file that the hub names by it, as far as its bytes have come.
pub(super) struct Checksum(Option<Sha256>);

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

impl Checksum {
    /// Nothing as yet; of files that have other names nothing is known.
    pub(super) fn named(etag: &str) -> Self {
        let is_sha256 = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self(is_sha256.then(Sha256::new))
    }

    /// Goes on with what has come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    /// Goes on with the first `there` bytes of a file, unless `is_over` before.
    pub(super) fn add_file(&mut self, file: &File, there: u64, is_over: impl Fn() -> bool) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        while self.0.is_some() && done < there && !is_over() {
            let room = buffer.len().min((there - done) as usize);
            match read_at(file, done, &mut buffer[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    self.add(&buffer[..read]);
                    done += read as u64;
                }
            }
        }
        Ok(())
    }

    /// What all bytes come to, if it is not what it should be.
    pub(super) fn other_than(&self, etag: &str) -> Option<String> {
        let found: String = self.0.clone()?.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (!found.eq_ignore_ascii_case(etag)).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn bytes_are_held_against_their_name() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"abx").unwrap();
        let mut sum = Checksum::named(OF_ABC);
        sum.add_file(&file, 2, || false).unwrap();
        assert!(sum.other_than(OF_ABC).is_some_and(|found| found.len() == 64));
        sum.add(b"c");
        assert_eq!(sum.other_than(OF_ABC), None);
    }

    #[test]
    fn other_names_say_nothing() {
        let mut sum = Checksum::named("f572d396fae9206628714fb2ce00f72e94f2258f");
        sum.add(b"abc");
        assert_eq!(sum.other_than("f572d396fae9206628714fb2ce00f72e94f2258f"), None);
    }
}
