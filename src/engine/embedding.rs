use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use leveret_models::Backend;
use rayon::prelude::*;

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

/// Bytes of rows that become a tensor at once: beyond 8 MiB jemalloc, for one, gives memory back to the system as soon as it
/// is freed, and each page that comes anew is a fault.
const PIECE: usize = 4 << 20;

/// Rows that a thread reads at least: to wake another takes longer.
const ALONE: usize = 32;

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
        let [count, width] = [self.entry.shape[0], self.entry.shape[1]];
        let shape = [ids.len(), columns.len(), width];
        // A second embedding may have fewer rows than there are ids.
        let known = |id: &u32| if (*id as usize) < count { *id } else { 0 };
        let ids: Vec<_> = ids.iter().flat_map(|ids| &ids[columns.clone()]).map(known).collect();
        let stored = stored_dtype::<B>(self.dtype, device);
        // The rows of a long prompt would push out all others.
        let is_short = ids.len() * self.row_len() <= self.kept_len() / 4;
        let mut pieces = Vec::new();
        for ids in ids.chunks((PIECE / self.row_len()).max(1)) {
            let bytes = self.read(ids)?;
            if is_short {
                self.keep(ids, &bytes);
            }
            let data = TensorData::from_bytes_vec(bytes, [ids.len(), width], self.dtype);
            pieces.push(Tensor::<B, 2>::from_data(data, (device, stored)));
        }
        self.checkpoint.shards()[self.entry.shard].check_unchanged()?;
        let whole = match pieces.len() {
            1 => pieces.remove(0),
            _ => Tensor::cat(pieces, 0),
        };
        Ok(whole.reshape(shape).cast(dtype))
    }

    fn row_len(&self) -> usize {
        self.entry.shape[1] * self.dtype.size()
    }

    /// Rows one after another, as they are stored.
    fn read(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let len = self.row_len();
        let mut bytes = vec![0; ids.len() * len];
        let file = &self.checkpoint.shards()[self.entry.shard];
        let read = |(id, to): (&u32, &mut [u8])| match self.rows.get(id) {
            Some(row) => {
                to.copy_from_slice(row);
                Ok(())
            }
            None => {
                let offset = self.entry.offset + u64::from(*id) * len as u64;
                file.read_unless(&|| self.cancellation.is_asked_for(), offset, to)
            }
        };
        // Bytes that are still coming are waited for here and not on threads that others compute on.
        match file.is_whole() {
            true => ids.par_iter().zip(bytes.par_chunks_exact_mut(len)).with_min_len(ALONE).try_for_each(read)?,
            false => ids.iter().zip(bytes.chunks_exact_mut(len)).try_for_each(read)?,
        }
        Ok(bytes)
    }

    /// Keeps rows that have been read.
    fn keep(&mut self, ids: &[u32], bytes: &[u8]) {
        let (len, room) = (self.row_len(), self.kept_len() / self.row_len());
        let read = ids.iter().zip(bytes.chunks_exact(len));
        let new: HashMap<_, _> = read.filter(|(id, _)| !self.rows.contains_key(id)).collect();
        if self.rows.len() + new.len() > room {
            self.rows.clear();
        }
        self.rows.extend(new.into_iter().map(|(id, row)| (*id, row.to_vec())));
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

    use super::*;

    /// Rows by the thread that asks, by all, and of several tensors put together; read, kept, and beyond the last.
    #[test]
    fn rows_are_those_of_the_ids() {
        const WIDTH: usize = 4096;
        const ROWS: usize = 600;
        let of = |row: usize, column: usize| (row * WIDTH + column) as f32;
        let numbers: Vec<u8> = (0..ROWS * WIDTH).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![ROWS, WIDTH], &numbers).unwrap();
        let dir = tempfile::tempdir().unwrap();
        serialize_to_file([("rows", view)], None, &dir.path().join("model.safetensors")).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(dir.path()).unwrap());
        let entry = checkpoint.get("rows").unwrap().clone();
        let mut embedding = Embedding::new(checkpoint, (entry, DType::F32), &Cancellation::default());

        for columns in [1, ALONE - 1, ALONE, PIECE / 4 / WIDTH, PIECE / 4 / WIDTH + 1, ROWS, 1] {
            let ids = [7u32, 599, 0].map(|first| (0..columns as u32 + 1).map(|i| first + i * 13 % 611).collect());
            let got = embedding.gather::<Flex>(&ids, &(1..columns + 1), (&Default::default(), DType::F32)).unwrap();
            assert_eq!(got.dims(), [3, columns, WIDTH]);
            let got = got.into_data().into_vec::<f32>().unwrap();
            let rows =
                ids.iter().flat_map(|ids| &ids[1..]).map(|id| if (*id as usize) < ROWS { *id as usize } else { 0 });
            for (row, got) in rows.zip(got.chunks_exact(WIDTH)) {
                assert!((0..WIDTH).all(|column| got[column] == of(row, column)), "{columns} columns, row {row}");
            }
            let (asked, kept) = (3 * columns * WIDTH * 4, embedding.rows.len() * WIDTH * 4);
            assert!(kept <= embedding.kept_len());
            assert_eq!(embedding.rows.contains_key(&ids[0][1]), asked <= embedding.kept_len() / 4, "{columns} columns");
            embedding.rows.remove(&ids[0][1]);
        }
    }
}
