use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::error::{AtPath, Error, Result};

/// The tensors of a reference file, in this program's own types.
pub(super) struct Reference<'a> {
    path: &'a Path,
    ints: HashMap<String, Ints>,
    floats: HashMap<String, Floats>,
}

/// Ids or a mask, `[columns]` or `[rows, columns]`.
struct Ints {
    columns: usize,
    values: Vec<i64>,
}

/// Logits `[.., columns]`.
struct Floats {
    columns: usize,
    values: Vec<f32>,
}

impl Ints {
    fn rows(&self) -> impl Iterator<Item = &[i64]> {
        self.values.chunks(self.columns.max(1))
    }
}

impl<'a> Reference<'a> {
    pub(super) fn read(path: &'a Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::NoReference { path: path.to_owned() });
        }
        let bytes = std::fs::read(path).at(path)?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::Header { path: path.to_owned(), reason: error.to_string() })?;
        let (mut ints, mut floats) = (HashMap::new(), HashMap::new());
        for (name, tensor) in file.iter() {
            let (data, columns) = (tensor.data(), *tensor.shape().last().unwrap_or(&1));
            match tensor.dtype() {
                Dtype::I64 => {
                    let values = data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
                    ints.insert(name.to_owned(), Ints { columns, values });
                }
                Dtype::F32 => {
                    let values = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                    floats.insert(name.to_owned(), Floats { columns, values });
                }
                _ => {}
            }
        }
        Ok(Self { path, ints, floats })
    }

    pub(super) fn missing(&self, tensor: &str) -> Error {
        let hint = "expected I64 ids and F32 logits, as tests/fixtures/make.py writes them".to_owned();
        Error::MissingTensor { path: self.path.to_owned(), tensor: tensor.to_owned(), hint }
    }

    /// The logits of so many tokens, one after another.
    pub(super) fn logits(&self, name: &str, tokens: usize, vocab_size: usize) -> Result<&[f32]> {
        let Floats { columns, values } = self.floats.get(name).ok_or_else(|| self.missing(name))?;
        if *columns != vocab_size {
            let path = self.path.to_owned();
            return Err(Error::VocabSize { path, found: *columns, expected: vocab_size });
        }
        match values.len() == tokens * columns {
            true => Ok(values),
            false => Err(self.missing(&format!("{name} of {tokens} tokens"))),
        }
    }

    /// A tensor of ids, row by row, if it is there.
    pub(super) fn rows(&self, name: &str) -> Result<Option<Vec<Vec<u32>>>> {
        let Some(ids) = self.ints.get(name) else { return Ok(None) };
        let id = |id: &i64| u32::try_from(*id).map_err(|_| self.missing(name));
        ids.rows().map(|row| row.iter().map(id).collect()).collect::<Result<_>>().map(Some)
    }

    /// The rows of `name`, without the places that the mask leaves out.
    pub(super) fn masked(&self, name: &str, mask: &str) -> Result<Option<Vec<Vec<u32>>>> {
        let Some(ids) = self.ints.get(name) else { return Ok(None) };
        let mask = self.ints.get(mask).ok_or_else(|| self.missing(mask))?;
        let id = |(id, _): (&i64, &i64)| u32::try_from(*id).map_err(|_| self.missing(name));
        let row =
            |(ids, mask): (&[i64], &[i64])| ids.iter().zip(mask).filter(|(_, seen)| **seen == 1).map(id).collect();
        ids.rows().zip(mask.rows()).map(row).collect::<Result<_>>().map(Some)
    }
}
