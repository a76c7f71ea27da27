use std::sync::{Mutex, PoisonError};

use super::blob::Blob;
use super::client::Client;
use super::failure::Failure;

/// Most headers are shorter; what is longer is asked for once more.
const FIRST: u64 = 128 << 10;
/// As long as the format allows.
const LONGEST: u64 = 100_000_000;

/// The headers of safetensors files, some at once: which tensor lies where is known before a file is there.
pub(super) fn fetch<'a>(
    client: &Client,
    blobs: &[&'a Blob],
    at_once: usize,
) -> Result<Vec<Vec<u8>>, (&'a Blob, Failure)> {
    let (todo, done) = (Mutex::new(blobs.iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some((index, blob)) = next() {
            let head = head(client, blob).map_err(|failure| (*blob, failure));
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, head));
        }
    };
    std::thread::scope(|scope| (0..at_once.min(blobs.len())).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, head)| head).collect()
}

/// The header of a file, if it is one; what it is worth is found out by who reads it.
fn head(client: &Client, blob: &Blob) -> Result<Vec<u8>, Failure> {
    let mut first = client.bytes(&blob.url, Some(0..FIRST.min(blob.bytes)))?;
    let Some(length) = first.first_chunk() else { return Ok(first) };
    let end = u64::from_le_bytes(*length).saturating_add(8);
    if end > first.len() as u64 && end <= blob.bytes && end <= LONGEST {
        return client.bytes(&blob.url, Some(0..end));
    }
    first.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    Ok(first)
}
