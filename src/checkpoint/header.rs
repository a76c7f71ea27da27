use std::collections::HashMap;

use memmap2::MmapOptions;
use safetensors::SafeTensors;
use serde_json::Value;

use super::TensorEntry;
use crate::error::{AtPath, Error, Result};
use crate::io::WeightFile;

/// Headers are JSON of some hundred bytes a tensor; the format allows 100 MB.
const LARGEST: u64 = 100_000_000;

/// Reads and checks the header of one safetensors file; nothing else of the file is touched.
pub(super) fn read(file: &WeightFile, shard: usize) -> Result<HashMap<String, TensorEntry>> {
    let broken = |reason: String| Error::Header { path: file.path().to_owned(), reason };
    let mut length = [0; 8];
    if file.len() < 8 {
        return Err(broken(format!("the file has {} bytes, expected at least 8", file.len())));
    }
    file.read(0, &mut length)?;
    let header = u64::from_le_bytes(length);
    if header > LARGEST || header + 8 > file.len() {
        return Err(broken(format!("it claims {header} bytes, the file has {}", file.len())));
    }

    // `safetensors` checks offsets against the length of a buffer that holds the whole file: give it one as long, of
    // which only the header's pages ever exist.
    let mut buffer = MmapOptions::new().len(file.len() as usize).no_reserve_swap().map_anon().at(file.path())?;
    file.read(0, &mut buffer[..header as usize + 8])?;
    let (_, metadata) = SafeTensors::read_metadata(&buffer).map_err(|error| {
        let expected = end(&buffer[8..header as usize + 8]).map(|end| end.saturating_add(8 + header));
        broken(match expected.filter(|expected| *expected != file.len()) {
            Some(expected) => format!("its tensors end at byte {expected}, the file has {}", file.len()),
            None => error.to_string(),
        })
    })?;

    let entries = metadata.tensors().into_iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        let entry = TensorEntry {
            shard,
            offset: 8 + header + start as u64,
            len: (end - start) as u64,
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        (name, entry)
    });
    Ok(entries.collect())
}

/// Where the last tensor ends, counted from the end of the header, as far as the header is JSON.
fn end(header: &[u8]) -> Option<u64> {
    let header: HashMap<String, Value> = serde_json::from_slice(header).ok()?;
    header.values().filter_map(|info| info["data_offsets"][1].as_u64()).max()
}
