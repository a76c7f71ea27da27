use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use leveret_models::Backend;

use super::Cancellation;
use crate::checkpoint::{Checkpoint, TensorEntry};
use crate::error::Result;
use crate::record::stored_dtype;

/// An embedding matrix, which stays in its file: of all weights it is the one that a pass needs least of.
///
/// Rows that have been used are kept in memory, up to a number.
#[derive(Debug)]
pub(crate) struct Embedding {
    checkpoint: Arc<Checkpoint>,
    entry: TensorEntry,
    dtype: DType,
    rows: HashMap<u32, Vec<u8>>,
    /// What ends waiting for a row.
    cancellation: Cancellation,
}

/// Bytes of rows that are kept at most.
const KEPT: usize = 8 << 20;

impl Embedding {
    pub(super) fn new(
        checkpoint: Arc<Checkpoint>,
        (entry, dtype): (TensorEntry, DType),
        cancellation: &Cancellation,
    ) -> Self {
        Self { checkpoint, entry, dtype, rows: HashMap::new(), cancellation: cancellation.clone() }
    }

    /// Bytes that kept rows may take.
    pub(crate) fn kept_len(&self) -> usize {
        KEPT.min(self.entry.len as usize)
    }

    /// The embeddings of some columns of `ids`: `[batch, columns, width]`.
    pub(super) fn gather<B: Backend>(
        &mut self,
        ids: &[Vec<u32>],
        columns: &Range<usize>,
        (device, dtype): (&B::Device, DType),
    ) -> Result<Tensor<B, 3>> {
        let width = self.entry.shape[1];
        let row = width * self.dtype.size();
        let mut bytes = Vec::with_capacity(ids.len() * columns.len() * row);
        for id in ids.iter().flat_map(|ids| &ids[columns.clone()]) {
            bytes.extend_from_slice(self.row(*id, row)?);
        }
        self.checkpoint.shards()[self.entry.shard].check_unchanged()?;
        let data = TensorData::from_bytes_vec(bytes, [ids.len(), columns.len(), width], self.dtype);
        let stored = stored_dtype::<B>(self.dtype, device);
        Ok(Tensor::<B, 3>::from_data(data, (device, stored)).cast(dtype))
    }

    fn row(&mut self, id: u32, len: usize) -> Result<&[u8]> {
        // A second embedding may have fewer rows than there are ids.
        let id = if (id as usize) < self.entry.shape[0] { id } else { 0 };
        if !self.rows.contains_key(&id) {
            if (self.rows.len() + 1) * len > self.kept_len() {
                self.rows.clear();
            }
            let mut bytes = vec![0; len];
            let file = &self.checkpoint.shards()[self.entry.shard];
            let offset = self.entry.offset + u64::from(id) * len as u64;
            file.read_unless(&|| self.cancellation.is_asked_for(), offset, &mut bytes)?;
            self.rows.insert(id, bytes);
        }
        Ok(&self.rows[&id])
    }
}
