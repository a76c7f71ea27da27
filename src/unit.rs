//! Cuts a checkpoint into units: the smallest things that stream.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use burn::tensor::DType;
use leveret_models::Names;

use crate::checkpoint::{Checkpoint, TensorEntry};
use crate::error::{Error, Result};
use crate::io::BLOCK;

/// Tensors whose gap in the file is at most this are read in one go.
const GAP: u64 = 64 * 1024;

/// Bytes of one read.
pub(crate) const CHUNK: usize = 4 << 20;

/// Tensors in device memory begin at multiples of this: kernels load 16 bytes at once, and more would do no harm.
const DEVICE_ALIGN: usize = 256;

/// A parameter as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Name within its layer or head.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

/// What a model needs from a checkpoint, part by part.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) names: Names,
    /// Rows and columns of the embedding.
    pub(crate) embedding: [usize; 2],
    pub(crate) layers: Vec<Vec<Parameter>>,
    /// Parameters of the final norm and the whole head.
    pub(crate) head: Vec<Parameter>,
    /// Whether the head may be the embedding.
    pub(crate) tied: bool,
}

/// A model's checkpoint, cut.
#[derive(Debug)]
pub(crate) struct Units {
    /// The embedding, of which rows are gathered.
    pub(crate) embedding: TensorEntry,
    pub(crate) embedding_dtype: DType,
    /// The layers, then the parts of the head, in the order of a pass.
    pub(crate) units: Vec<Unit>,
}

/// What streams in one piece.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) kind: UnitKind,
    pub(crate) tensors: Vec<UnitTensor>,
    pub(crate) reads: Vec<Read>,
    /// Bytes of the host memory that holds it as it lies in its files.
    pub(crate) host_len: usize,
    /// Bytes of the device memory that holds its tensors alone.
    pub(crate) device_len: usize,
}

/// Which part of the model a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnitKind {
    Layer(usize),
    /// Some rows of the head; the first part also has the final norm.
    Head(Range<usize>),
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(index) => write!(f, "layer {index}"),
            Self::Head(rows) => write!(f, "the head (rows {} to {})", rows.start, rows.end),
        }
    }
}

/// One tensor, or some rows of one, inside a unit's slot.
#[derive(Debug)]
pub(crate) struct UnitTensor {
    pub(crate) parameter: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// First byte in host memory.
    pub(crate) offset: usize,
    /// First byte in the memory of a device with its own, where kernels want tensors aligned.
    pub(crate) device_offset: usize,
    pub(crate) len: usize,
}

/// One run of whole blocks of a file, and where in host memory it goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) shard: usize,
    pub(crate) offset: u64,
    pub(crate) slot: Range<usize>,
}

impl Unit {
    /// Bytes of its tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.len as u64).sum()
    }

    /// Its reads, cut into chunks: large enough for any disk's rate, small enough that readers end together.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Read> {
        self.reads.iter().flat_map(|read| {
            let starts = read.slot.clone().step_by(CHUNK);
            starts.map(move |start| Read {
                shard: read.shard,
                offset: read.offset + (start - read.slot.start) as u64,
                slot: start..(start + CHUNK).min(read.slot.end),
            })
        })
    }

    /// Which bytes of host memory in `range` go where in device memory.
    pub(crate) fn segments(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
        self.tensors.iter().filter_map(move |tensor| {
            let start = tensor.offset.max(range.start);
            let end = (tensor.offset + tensor.len).min(range.end);
            (start < end).then(|| (start..end, tensor.device_offset + (start - tensor.offset)))
        })
    }
}

impl Units {
    /// Finds every parameter of `outline` in the checkpoint, checks shapes and dtypes, and lays the units out.
    pub(crate) fn cut(checkpoint: &Checkpoint, outline: &Outline) -> Result<Self> {
        let mut finder = Finder::new(checkpoint, outline)?;
        let (embedding, embedding_dtype) = {
            let name = finder.embedding.clone();
            let [rows, columns] = outline.embedding;
            finder.find(&name, &[rows, columns])?
        };
        let mut units = Vec::new();
        for (index, parameters) in outline.layers.iter().enumerate() {
            let found = parameters.iter().map(|parameter| {
                let name = format!("{}{}.{index}.{}", finder.prefix, outline.names.layers, parameter.name);
                Ok((parameter.name.clone(), finder.find(&name, &parameter.shape)?))
            });
            units.push(lay_out(UnitKind::Layer(index), found.collect::<Result<_>>()?));
        }
        units.extend(finder.head(outline, &units)?);
        finder.refuse_extra_tensors(outline)?;
        Ok(Self { embedding, embedding_dtype, units })
    }
}

/// A checkpoint entry and the dtype to compute with.
pub(crate) type Found = (TensorEntry, DType);

struct Finder<'a> {
    checkpoint: &'a Checkpoint,
    /// What this checkpoint puts before the decoder's names.
    prefix: String,
    embedding: String,
    head: String,
    used: HashSet<String>,
}

impl<'a> Finder<'a> {
    fn new(checkpoint: &'a Checkpoint, outline: &Outline) -> Result<Self> {
        let names = &outline.names;
        let has = |name: &str| checkpoint.get(name).is_some();
        let named = |prefix: &str| format!("{prefix}{}", names.embedding);
        let weight = |name: &str| format!("{name}.weight");
        // A model with a head, a bare decoder, and the text part of multimodal ones.
        let prefixes = [names.prefix, "", "language_model.model.", "model.language_model."];
        let some_layer =
            |prefix: &str| checkpoint.names().any(|name| name.starts_with(&format!("{prefix}{}.", names.layers)));
        let prefix = prefixes.into_iter().find(|prefix| has(&named(prefix)));
        let prefix = prefix.or_else(|| prefixes.into_iter().find(|prefix| some_layer(prefix))).unwrap_or(names.prefix);

        let heads = [weight(names.head), format!("language_model.{}", weight(names.head))];
        let own_head = heads.iter().find(|name| has(name)).cloned();
        let embedding = named(prefix);
        // A head in the file wins over what the config says; a tied embedding may be saved under the head's name.
        let (embedding, head) = match (own_head, outline.tied) {
            (Some(head), true) if !has(&embedding) => (head.clone(), head),
            (Some(head), _) => (embedding, head),
            (None, true) => (embedding.clone(), embedding),
            (None, false) => {
                let hint = "config.json does not say tie_word_embeddings: true, so the head must be in the checkpoint";
                let (path, tensor) = (checkpoint.dir().to_owned(), heads[0].clone());
                return Err(Error::MissingTensor { path, tensor, hint: hint.to_owned() });
            }
        };
        Ok(Self { checkpoint, prefix: prefix.to_owned(), embedding, head, used: HashSet::new() })
    }

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found> {
        let Some(entry) = self.checkpoint.get(name) else {
            let path = self.checkpoint.dir().to_owned();
            let hint = "check that the checkpoint is whole and belongs to config.json".to_owned();
            return Err(Error::MissingTensor { path, tensor: name.to_owned(), hint });
        };
        if entry.shape != shape {
            return Err(Error::Shape {
                path: self.checkpoint.path(entry).to_owned(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        self.used.insert(name.to_owned());
        Ok((entry.clone(), self.checkpoint.float_dtype(name, entry)?))
    }

    /// The head in parts no larger than the largest layer, so that it never decides how much memory is needed.
    fn head(&mut self, outline: &Outline, layers: &[Unit]) -> Result<Vec<Unit>> {
        let mut norm = Vec::new();
        let mut rows = Vec::new();
        for parameter in &outline.head {
            let (part, rest) = parameter.name.split_once('.').unwrap_or((&parameter.name, ""));
            let is_norm = part == "norm";
            let name = match (is_norm, rest) {
                (true, rest) => format!("{}{}.{rest}", self.prefix, outline.names.norm),
                (false, "weight") => self.head.clone(),
                (false, rest) => format!("{}.{rest}", outline.names.head),
            };
            let found = (parameter.name.clone(), self.find(&name, &parameter.shape)?);
            if is_norm { norm.push(found) } else { rows.push(found) }
        }
        let vocab_size = outline.embedding[0];
        let bytes: u64 = rows.iter().map(|(_, (entry, _))| entry.len).sum();
        let largest = layers.iter().map(|unit| unit.bytes()).max().unwrap_or(bytes).max(1);
        let height = vocab_size.div_ceil(bytes.div_ceil(largest).max(1) as usize);
        let parts = (0..vocab_size).step_by(height).map(|start| start..(start + height).min(vocab_size));
        Ok(parts
            .map(|part| {
                let slices = rows.iter().map(|(name, (entry, dtype))| (name.clone(), (slice(entry, &part), *dtype)));
                let tensors = if part.start == 0 { norm.clone() } else { Vec::new() };
                lay_out(UnitKind::Head(part.clone()), tensors.into_iter().chain(slices).collect())
            })
            .collect())
    }

    /// A tensor of the language model that no parameter wants means that the config describes another model.
    fn refuse_extra_tensors(&self, outline: &Outline) -> Result<()> {
        let head = format!("{}.", outline.names.head);
        // A multimodal checkpoint has towers that are none of the decoder's business.
        let wrapped = self.prefix.contains("language_model");
        let ours = |name: &str| !wrapped || name.starts_with(&self.prefix) || name.starts_with(&head);
        // Tables that old checkpoints saved though they follow from the config.
        let ignored = |name: &str| name.ends_with("rotary_emb.inv_freq");
        let mut extra: Vec<_> =
            self.checkpoint.names().filter(|name| ours(name) && !ignored(name) && !self.used.contains(*name)).collect();
        extra.sort_unstable();
        match extra.first().and_then(|name| Some((name, self.checkpoint.get(name)?))) {
            Some((name, entry)) => {
                Err(Error::ExtraTensor { path: self.checkpoint.path(entry).to_owned(), tensor: (*name).to_owned() })
            }
            None => Ok(()),
        }
    }
}

/// Some rows of a tensor, as a range of its bytes.
fn slice(entry: &TensorEntry, rows: &Range<usize>) -> TensorEntry {
    let row = entry.len / entry.shape[0].max(1) as u64;
    let mut shape = entry.shape.clone();
    shape[0] = rows.len();
    TensorEntry { offset: entry.offset + rows.start as u64 * row, len: rows.len() as u64 * row, shape, ..entry.clone() }
}

/// Places a unit's tensors in a slot: neighbours in a file stay neighbours, every read is of whole blocks.
pub(crate) fn lay_out(kind: UnitKind, mut found: Vec<(String, Found)>) -> Unit {
    found.sort_by_key(|(_, (entry, _))| (entry.shard, entry.offset));
    let block = BLOCK as u64;
    let (mut reads, mut tensors) = (Vec::<Read>::new(), Vec::new());
    let (mut host_len, mut device_len) = (0, 0usize);
    for (parameter, (entry, dtype)) in found {
        let start = entry.offset / block * block;
        let end = (entry.offset + entry.len).next_multiple_of(block);
        let near = |read: &&mut Read| {
            let read_end = read.offset + read.slot.len() as u64;
            read.shard == entry.shard && start <= read_end + GAP
        };
        let read = match reads.last_mut().filter(|read| near(read)) {
            Some(read) => {
                let len = (end - read.offset).max(read.slot.len() as u64) as usize;
                read.slot.end = read.slot.start + len;
                read
            }
            None => {
                let slot = host_len..host_len + (end - start) as usize;
                reads.push(Read { shard: entry.shard, offset: start, slot });
                reads.last_mut().expect("just pushed")
            }
        };
        host_len = read.slot.end;
        let offset = read.slot.start + (entry.offset - read.offset) as usize;
        let (len, device_offset) = (entry.len as usize, device_len);
        device_len = (device_offset + len).next_multiple_of(DEVICE_ALIGN);
        tensors.push(UnitTensor { parameter, dtype, shape: entry.shape, offset, device_offset, len });
    }
    Unit { kind, tensors, reads, host_len, device_len }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use safetensors::Dtype;

    fn entry(shard: usize, offset: u64, len: u64) -> Found {
        let shape = vec![len as usize / 4];
        (TensorEntry { shard, offset, len, dtype: Dtype::F32, shape }, DType::F32)
    }

    #[test]
    fn neighbours_are_read_in_one_go_and_far_tensors_apart() {
        let unit = lay_out(
            UnitKind::Layer(0),
            vec![
                ("c".into(), entry(1, 0, 40)),
                ("b".into(), entry(0, 5000, 8000)),
                ("a".into(), entry(0, 4200, 800)),
                ("d".into(), entry(0, 1 << 20, 16)),
            ],
        );
        let at = |shard, offset, slot| Read { shard, offset, slot };
        let block = BLOCK as u64;
        assert_eq!(
            unit.reads,
            [at(0, block, 0..3 * BLOCK), at(0, 1 << 20, 3 * BLOCK..4 * BLOCK), at(1, 0, 4 * BLOCK..5 * BLOCK)]
        );
        assert_eq!(unit.host_len, 5 * BLOCK);
        let offsets: HashMap<_, _> = unit.tensors.iter().map(|t| (t.parameter.as_str(), t.offset)).collect();
        assert_eq!(offsets["a"], 104);
        assert_eq!(offsets["b"], 904);
        assert_eq!(offsets["d"], 3 * BLOCK);
    }

    /// Chunk by chunk, every byte of every tensor goes to its place on the device exactly once.
    #[test]
    fn chunks_cover_all_tensors() {
        let len = 2 * CHUNK as u64 + 5000;
        let unit = lay_out(
            UnitKind::Layer(0),
            vec![("a".into(), entry(0, 104, len)), ("b".into(), entry(0, 104 + len, 12)), ("c".into(), entry(1, 8, 4))],
        );
        assert_eq!(unit.chunks().map(|chunk| chunk.slot.len()).sum::<usize>(), unit.host_len);
        let mut places = vec![0u8; unit.device_len];
        for chunk in unit.chunks() {
            assert!(chunk.slot.len() <= CHUNK && chunk.offset.is_multiple_of(BLOCK as u64));
            for (from, to) in unit.segments(chunk.slot) {
                places[to..to + from.len()].iter_mut().for_each(|place| *place += 1);
            }
        }
        for tensor in &unit.tensors {
            let place = &mut places[tensor.device_offset..][..tensor.len];
            assert!(place.iter().all(|count| *count == 1), "{}", tensor.parameter);
            place.fill(0);
        }
        assert!(places.iter().all(|count| *count == 0));
    }
}
