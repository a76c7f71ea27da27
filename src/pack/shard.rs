use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::contents::{Item, ModelPart, NewTensor};
use super::deviation::{Deviation, TEXT_LEN};
use super::matrix;
use crate::checkpoint::Checkpoint;
use crate::error::{AtPath, Result};

/// A new file of weights: where everything in it goes is known before it is written.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) name: String,
    /// Length and header, with a blank deviation.
    pub(super) header: Vec<u8>,
    /// Bytes of the file.
    pub(super) len: u64,
    parts: Vec<PlacedPart>,
}

/// A part of the model, or some of its tensors.
#[derive(Debug)]
struct PlacedPart {
    title: String,
    items: Vec<Placed>,
}

/// An item, and where its tensors begin in the file.
#[derive(Debug)]
struct Placed {
    item: Item,
    tensors: Vec<(NewTensor, u64)>,
}

/// The entry of a header's metadata that says what a shard was packed from.
const SOURCE: &str = "packed_from";

/// The entry that says how far its weights are from what they were: sums of squared errors and of squared weights.
const DEVIATION: &str = "squared_errors_and_weights";

impl Shard {
    /// Divides a model among shards of at most `largest` bytes of tensors; a part that fits one is not torn.
    pub(super) fn divide(parts: &[ModelPart], largest: u64, source: &str) -> Vec<Self> {
        let mut shards: Vec<Vec<ModelPart>> = vec![Vec::new()];
        let mut room = largest;
        for part in parts {
            let whole: u64 = part.items.iter().map(Item::len).sum();
            for (i, item) in part.items.iter().enumerate() {
                let wanted = if i == 0 && whole <= largest { whole } else { item.len() };
                let current = shards.last_mut().expect("there is always one");
                if wanted > room && !current.is_empty() {
                    shards.push(Vec::new());
                    room = largest;
                }
                let current = shards.last_mut().expect("there is always one");
                match current.last_mut().filter(|of| of.title == part.title) {
                    Some(of) => of.items.push(item.clone()),
                    None => current.push(ModelPart { title: part.title.clone(), items: vec![item.clone()] }),
                }
                room = room.saturating_sub(item.len());
            }
        }
        let count = shards.len();
        let name = |index: usize| format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        shards.into_iter().enumerate().map(|(index, parts)| Self::lay_out(name(index), parts, source)).collect()
    }

    /// Part after part; in each the wider numbers first, so that all are aligned where sizes are round.
    fn lay_out(name: String, parts: Vec<ModelPart>, source: &str) -> Self {
        let (mut header, mut starts, mut end) = (Map::new(), HashMap::new(), 0);
        let metadata = json!({ "format": "pt", SOURCE: source, DEVIATION: " ".repeat(TEXT_LEN) });
        header.insert("__metadata__".to_owned(), metadata);
        for part in &parts {
            let mut tensors: Vec<_> = part.items.iter().flat_map(Item::tensors).collect();
            tensors.sort_by_cached_key(|tensor| (Reverse(tensor.width()), tensor.name.clone()));
            for NewTensor { name, dtype, shape, len } in tensors {
                let offsets = [end, end + len];
                header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
                starts.insert(name, end);
                end += len;
            }
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let header = [(text.len() as u64).to_le_bytes().as_slice(), &text].concat();
        let begin = header.len() as u64;
        let placed = |item: Item| {
            let place = |tensor: NewTensor| {
                let start = begin + starts[&tensor.name];
                (tensor, start)
            };
            Placed { tensors: item.tensors().into_iter().map(place).collect(), item }
        };
        let parts = parts
            .into_iter()
            .map(|part| PlacedPart { title: part.title, items: part.items.into_iter().map(placed).collect() });
        Self { name, len: begin + end, parts: parts.collect(), header }
    }

    /// The names of its tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &str> {
        let items = self.parts.iter().flat_map(|part| &part.items);
        items.flat_map(|placed| placed.tensors.iter().map(|(tensor, _)| tensor.name.as_str()))
    }

    /// Writes it to `path`, and to the disk.
    pub(super) fn write(
        &self,
        path: &Path,
        checkpoint: &Checkpoint,
        mut progress: impl FnMut(&str, u64),
    ) -> Result<Deviation> {
        let mut file = File::create(path).at(path)?;
        let mut write =
            |offset: u64, bytes: &[u8]| file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes)).at(path);
        write(0, &self.header)?;
        let (mut deviation, mut done) = (Deviation::default(), 0);
        for part in &self.parts {
            progress(&part.title, done);
            for Placed { item, tensors } in &part.items {
                let mut offsets: Vec<_> = tensors.iter().map(|(_, offset)| *offset).collect();
                let mut next = |which: usize, bytes: &[u8]| {
                    let offset = offsets[which];
                    offsets[which] += bytes.len() as u64;
                    write(offset, bytes)
                };
                match item.packed {
                    Some(packed) => {
                        let of_item = matrix::pack(checkpoint, &item.entry, packed, |[codes, scales]| {
                            next(0, codes).and_then(|()| next(1, scales))
                        })?;
                        deviation = deviation + of_item;
                    }
                    None => copy(checkpoint, item, |bytes| next(0, bytes))?,
                }
                done += item.len();
            }
        }
        write(0, &self.header_with(deviation))?;
        file.sync_all().at(path)?;
        Ok(deviation)
    }

    /// The header as it is written in the end.
    fn header_with(&self, deviation: Deviation) -> Vec<u8> {
        let mut header = self.header.clone();
        if let Some(at) = self.blank() {
            header[at..at + TEXT_LEN].copy_from_slice(deviation.to_text().as_bytes());
        }
        header
    }

    /// What a file says that has this header, all but the blank.
    pub(super) fn deviation_in(&self, header: &[u8]) -> Option<Deviation> {
        let at = self.blank()?;
        let same = header.len() == self.header.len()
            && header[..at] == self.header[..at]
            && header[at + TEXT_LEN..] == self.header[at + TEXT_LEN..];
        Deviation::from_text(std::str::from_utf8(&header[at..at + TEXT_LEN]).ok()?).filter(|_| same)
    }

    /// Where the deviation stands in the header.
    fn blank(&self) -> Option<usize> {
        let key = format!("\"{DEVIATION}\":\"");
        Some(self.header.windows(key.len()).position(|bytes| bytes == key.as_bytes())? + key.len())
    }
}

impl NewTensor {
    /// Bytes of one number.
    fn width(&self) -> u64 {
        self.len / self.shape.iter().product::<usize>().max(1) as u64
    }
}

/// Copies a tensor as it is.
fn copy(checkpoint: &Checkpoint, item: &Item, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let (entry, file) = (&item.entry, &checkpoint.shards()[item.entry.shard]);
    let mut buffer = vec![0; (16 << 20).min(entry.len as usize)];
    let mut at = 0;
    while at < entry.len {
        let part = &mut buffer[..(entry.len - at).min(16 << 20) as usize];
        file.read(entry.offset + at, part)?;
        write(part)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// What the header of a safetensors file says it was packed from.
pub(super) fn source_of(header: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(header.get(8..)?).ok()?;
    json.get("__metadata__")?.get(SOURCE)?.as_str().map(str::to_owned)
}
