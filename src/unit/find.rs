use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use burn::tensor::DType;
use leveret_models::Slice;
use leveret_models::layers::Place;
use leveret_models::weight::{Format, Part};

use super::Parameter;
use crate::checkpoint::{Checkpoint, FLOATS, TensorEntry};
use crate::error::{Error, Result};

/// A checkpoint entry and its dtype: of floats the one to compute with, of codes and scales the one that devices hold.
pub(super) type Found = (TensorEntry, DType);

/// One tensor of a parameter: the whole, or codes or scales.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) name: String,
    pub(super) found: Found,
    /// Rows of the parameter that one row of it serves.
    rows: usize,
}

impl Array {
    /// What belongs to some rows of the parameter, which begin where one of its own does.
    pub(super) fn slice(&self, rows: &Range<usize>) -> (String, Found) {
        let (entry, dtype) = &self.found;
        let rows = rows.start / self.rows..rows.end.div_ceil(self.rows);
        (self.name.clone(), (slice(entry, &rows), *dtype))
    }

    /// Whether a row of its own begins at `row` of the parameter.
    fn begins_at(&self, row: usize) -> bool {
        row.is_multiple_of(self.rows)
    }

    /// Rows of the parameter that have to stay together.
    pub(super) fn block_rows(&self) -> usize {
        self.rows
    }
}

/// Finds tensors, checks them, and remembers which.
pub(super) struct Finder<'a> {
    checkpoint: &'a Checkpoint,
    /// The format of packed matrices.
    format: Option<Format>,
    used: HashSet<String>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, format: Option<Format>) -> Self {
        Self { checkpoint, format, used: HashSet::new() }
    }

    pub(super) fn has_used(&self, tensor: &str) -> bool {
        self.used.contains(tensor)
    }

    /// The tensors of a parameter: codes and scales if it is packed, which its dtype tells.
    pub(super) fn parameter(&mut self, name: &str, parameter: &Parameter) -> Result<Vec<Array>> {
        let arrays = match self.packed(name, parameter) {
            Some((format, parts)) => {
                let of = [("codes", parts[0]), ("scales", parts[1])].map(|(which, part)| {
                    let found = self.part(name, format, &part)?;
                    Ok(Array { name: format!("{}.{format}.{which}", parameter.name), found, rows: part.rows })
                });
                of.into_iter().collect::<Result<Vec<_>>>()?
            }
            None => {
                let found = self.floats(name, parameter)?;
                vec![Array { name: parameter.name.clone(), found, rows: 1 }]
            }
        };
        let Some(Slice { rows, .. }) = parameter.slice() else { return Ok(arrays) };
        if let Some(array) = arrays.iter().find(|array| !array.begins_at(rows.start)) {
            let path = self.checkpoint.path(&array.found.0).to_owned();
            let (start, block) = (rows.start, array.rows);
            let reason =
                format!("`{name}` has scales for {block} rows at a time, and row {start} begins another matrix");
            return Err(Error::Unsupported { path, reason });
        }
        let slice = |array: &Array| {
            let (name, found) = array.slice(rows);
            Array { name, found, rows: array.rows }
        };
        Ok(arrays.iter().map(slice).collect())
    }

    /// The tensors of a parameter that lies at one of several places: at the first that the checkpoint has.
    pub(super) fn placed(&mut self, prefix: &str, places: &[Place], parameter: &Parameter) -> Result<Vec<Array>> {
        let Some(place) = place(self.checkpoint, prefix, places) else { return Ok(Vec::new()) };
        let name = format!("{prefix}{}", place.tensor);
        let Some(part) = &place.part else { return self.parameter(&name, parameter) };
        let whole = Parameter::new(parameter.name.clone(), part.of.clone());
        let (entry, dtype) = self.floats(&name, &whole)?;
        let found = (part_of(&entry, part, &parameter.shape), dtype);
        Ok(vec![Array { name: parameter.name.clone(), found, rows: 1 }])
    }

    /// A tensor of floats, of this name and shape.
    pub(super) fn floats(&mut self, name: &str, parameter: &Parameter) -> Result<Found> {
        let hint = || "check that the checkpoint is whole and belongs to config.json".to_owned();
        let entry = self.entry(name, self.checkpoint.dir(), hint)?.clone();
        let dtype = entry.float_dtype().ok_or_else(|| {
            let stored = self.parts(parameter).map(|(_, [codes, _])| format!("{}, {FLOATS}", codes.stored));
            self.checkpoint.wrong_dtype(name, &entry, stored.as_deref().unwrap_or(FLOATS))
        })?;
        self.shaped(name, entry, &parameter.tensor_shape(), dtype)
    }

    /// Codes and scales of a parameter, if it could be packed.
    fn parts(&self, parameter: &Parameter) -> Option<(Format, [Part; 2])> {
        let (format, shape) = (self.format?, parameter.matrix()?);
        format.suits(shape).then(|| (format, format.parts(shape)))
    }

    /// Codes and scales of a parameter, if it is packed.
    fn packed(&self, name: &str, parameter: &Parameter) -> Option<(Format, [Part; 2])> {
        let (format, parts) = self.parts(parameter)?;
        let entry = self.checkpoint.get(name)?;
        (entry.stored() == parts[0].stored).then_some((format, parts))
    }

    fn part(&mut self, name: &str, format: Format, part: &Part) -> Result<Found> {
        let (name, matrix) = (format!("{name}{}", part.suffix), name);
        let hint = || format!("`{matrix}` is packed as {format} and needs it; download or pack the checkpoint again");
        let path = self.checkpoint.get(matrix).map_or(self.checkpoint.dir(), |codes| self.checkpoint.path(codes));
        let entry = self.entry(&name, path, hint)?.clone();
        // Some FP8 checkpoints have their scales in bf16, which are widened where they are used.
        let may_be_short = part.stored == "F32";
        let dtype = match entry.float_dtype() {
            Some(DType::BF16) if may_be_short => DType::BF16,
            _ if entry.stored() == part.stored => part.dtype,
            _ => {
                let expected = if may_be_short { "F32 or BF16" } else { part.stored };
                return Err(self.checkpoint.wrong_dtype(&name, &entry, expected));
            }
        };
        self.shaped(&name, entry, &part.shape, dtype)
    }

    /// A tensor that `path` ought to have.
    fn entry(&self, name: &str, path: &Path, hint: impl Fn() -> String) -> Result<&'a TensorEntry> {
        let missing = || Error::MissingTensor { path: path.to_owned(), tensor: name.to_owned(), hint: hint() };
        self.checkpoint.get(name).ok_or_else(missing)
    }

    fn shaped(&mut self, name: &str, entry: TensorEntry, shape: &[usize], dtype: DType) -> Result<Found> {
        if entry.shape != shape {
            return Err(Error::Shape {
                path: self.checkpoint.path(&entry).to_owned(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape,
            });
        }
        self.used.insert(name.to_owned());
        Ok((entry, dtype))
    }
}

/// The first of several places that a checkpoint has, else the first of all.
pub(crate) fn place<'a>(checkpoint: &Checkpoint, prefix: &str, places: &'a [Place]) -> Option<&'a Place> {
    let there = |place: &&Place| checkpoint.get(&format!("{prefix}{}", place.tensor)).is_some();
    places.iter().find(there).or(places.first())
}

/// A part of a tensor of the shape that it says, as a range of its bytes.
pub(crate) fn part_of(entry: &TensorEntry, part: &leveret_models::layers::Part, shape: &[usize]) -> TensorEntry {
    let rows = part.of[0] * part.of[1];
    let row = entry.len / rows.max(1) as u64;
    let start = (part.index * part.of[1] + part.rows.start) as u64 * row;
    let (offset, len) = (entry.offset + start, part.rows.len() as u64 * row);
    TensorEntry { offset, len, shape: shape.to_vec(), ..entry.clone() }
}

/// Some rows of a tensor, as a range of its bytes.
fn slice(entry: &TensorEntry, rows: &Range<usize>) -> TensorEntry {
    let row = entry.len / entry.shape[0].max(1) as u64;
    let mut shape = entry.shape.clone();
    shape[0] = rows.len();
    TensorEntry { offset: entry.offset + rows.start as u64 * row, len: rows.len() as u64 * row, shape, ..entry.clone() }
}
