//! Which tensor lies where: reads headers and no weights.

mod header;
mod index;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use safetensors::Dtype;

use crate::error::{Error, Result};
use crate::io::{ComingFiles, WeightFile};

/// The safetensors files of a model, indexed by tensor name and read in place.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<WeightFile>,
    tensors: HashMap<String, TensorEntry>,
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Index of the shard.
    pub(crate) shard: usize,
    /// First byte in that file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names, in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_coming(dir, &ComingFiles::new())
    }

    /// The same, where some files are still on their way.
    pub(crate) fn open_coming(dir: &Path, coming: &ComingFiles) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let index_path = dir.join("model.safetensors.index.json");
        let single_coming = coming.get("model.safetensors");
        let (shards, tensors) = if single_coming.is_some() || single.exists() {
            let shard = match single_coming {
                Some(coming) => WeightFile::coming(&single, coming.clone()),
                None => WeightFile::open(&single)?,
            };
            let tensors = header::read(&shard, 0)?;
            (vec![shard], tensors)
        } else if index_path.is_file() {
            index::open(&index_path, coming)?
        } else {
            return Err(Error::NoCheckpoint { path: dir.to_owned() });
        };
        Ok(Self { dir: dir.to_owned(), shards, tensors })
    }

    /// The directory of the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.len).sum()
    }

    /// The files, in the order that entries count them.
    pub(crate) fn shards(&self) -> &[WeightFile] {
        &self.shards
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)
    }

    /// The file that an entry lies in.
    pub(crate) fn path(&self, entry: &TensorEntry) -> &Path {
        self.shards[entry.shard].path()
    }

    /// The error of a tensor of the wrong dtype.
    pub(crate) fn wrong_dtype(&self, name: &str, entry: &TensorEntry, expected: &str) -> Error {
        let (path, tensor) = (self.path(entry).to_owned(), name.to_owned());
        Error::Dtype { path, tensor, expected: expected.to_owned(), found: entry.stored() }
    }
}

/// The dtypes that weights are computed with.
pub(crate) const FLOATS: &str = "F32, F16 or BF16";

impl TensorEntry {
    /// Its dtype in safetensors' words.
    pub(crate) fn stored(&self) -> String {
        format!("{:?}", self.dtype)
    }

    /// Its dtype, if that can be computed with.
    pub(crate) fn float_dtype(&self) -> Option<DType> {
        match self.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }
}
