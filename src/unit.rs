//! Cuts a checkpoint into units: the smallest things that stream.

mod cut;
mod find;
mod layout;
mod outline;
mod places;

use std::fmt;
use std::ops::Range;

use burn::tensor::DType;
use leveret_models::weight::Format;

pub(crate) use cut::Units;
pub(crate) use find::{part_of, place};
#[cfg(all(test, feature = "flex"))]
pub(crate) use layout::lay_out;
pub(crate) use outline::{Outline, Parameter};
pub(crate) use places::Places;

/// Bytes of one read.
pub(crate) const CHUNK: usize = 4 << 20;

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
    /// One of the experts that tokens choose among in a layer.
    Expert {
        layer: usize,
        expert: usize,
    },
    /// Some rows of the head; the first part also has the final norm.
    Head(Range<usize>),
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(index) => write!(f, "layer {index}"),
            Self::Expert { layer, expert } => write!(f, "expert {expert} of layer {layer}"),
            Self::Head(rows) => write!(f, "the head (rows {} to {})", rows.start, rows.end),
        }
    }
}

/// One tensor, or some rows of one, inside a unit's slot.
#[derive(Debug, Clone)]
pub(crate) struct UnitTensor {
    pub(crate) parameter: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// First byte in host memory.
    pub(crate) offset: usize,
    /// First byte in the memory of a device with its own, where kernels want tensors aligned.
    pub(crate) device_offset: usize,
    pub(crate) len: usize,
    /// Whether what is used is a copy of it, written anew.
    pub(crate) rewritten: bool,
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

impl UnitTensor {
    /// Bytes of the f32 that it stands for, if it is the codes of a packed matrix.
    pub(crate) fn unpacked_len(&self) -> Option<usize> {
        let is_of = |format: &Format| self.parameter.ends_with(&format!(".{format}.codes"));
        let format = Format::ALL.into_iter().find(is_of)?;
        // As many weights as this take so many bytes.
        let weights = 64;
        let bytes = format.parts([1, weights])[0].len();
        Some(self.len / bytes * weights * size_of::<f32>())
    }
}
