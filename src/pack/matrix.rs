use burn::tensor::DType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use leveret_models::weight::Format;
use rayon::prelude::*;

use super::deviation::Deviation;
use crate::checkpoint::{Checkpoint, TensorEntry};
use crate::error::{Error, Result};

/// Weights that are read before they are packed together.
const BATCH: usize = 8 << 20;

/// Weights that one thread packs at a time.
const RUN: usize = 128 << 10;

/// Packs a matrix some rows at a time; `write` is handed codes and scales as they come.
pub(super) fn pack(
    checkpoint: &Checkpoint,
    entry: &TensorEntry,
    (format, [rows, columns]): (Format, [usize; 2]),
    mut write: impl FnMut([&[u8]; 2]) -> Result<()>,
) -> Result<Deviation> {
    let Some(dtype) = entry.float_dtype() else { return Err(unusable(checkpoint, entry, "is not of floats")) };
    let batch = run_of(format, columns, BATCH);
    let (file, row) = (&checkpoint.shards()[entry.shard], columns * dtype.size());
    let mut source = vec![0; batch.min(rows) * row];
    let mut deviation = Deviation::default();
    for start in (0..rows).step_by(batch) {
        let source = &mut source[..batch.min(rows - start) * row];
        file.read(entry.offset + (start * row) as u64, source)?;
        let run = run_of(format, columns, RUN.min(BATCH / rayon::current_num_threads()));
        let packed: Vec<_> =
            source.par_chunks(run * row).map(|bytes| pack_rows(format, columns, bytes, dtype)).collect();
        for packed in packed {
            let Some(([codes, scales], of_rows)) = packed else {
                return Err(unusable(checkpoint, entry, "holds NaN or infinity"));
            };
            write([&codes, &scales])?;
            // Summed in order, so that every run gives the same bits.
            deviation = deviation + of_rows;
        }
    }
    Ok(deviation)
}

/// Rows of about so many weights that can be packed apart from others.
fn run_of(format: Format, columns: usize, weights: usize) -> usize {
    let block = format.block_rows();
    (weights / columns.max(1) / block).max(1) * block
}

fn pack_rows(format: Format, columns: usize, bytes: &[u8], dtype: DType) -> Option<([Vec<u8>; 2], Deviation)> {
    let weights = widen(bytes, dtype);
    if !weights.iter().all(|weight| weight.is_finite()) {
        return None;
    }
    let shape = [weights.len() / columns, columns];
    let [codes, scales] = format.pack(&weights, shape);
    let deviation = Deviation::new(&weights, &format.unpack([&codes, &scales], shape));
    Some(([codes, scales], deviation))
}

/// Little-endian floats as f32.
fn widen(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::BF16 => {
            let halves: Vec<_> = bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes)).collect();
            halves.to_f32_vec()
        }
        DType::F16 => {
            let halves: Vec<_> = bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
            halves.to_f32_vec()
        }
        _ => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    }
}

fn unusable(checkpoint: &Checkpoint, entry: &TensorEntry, reason: &str) -> Error {
    let found = checkpoint.names().find(|name| checkpoint.get(name) == Some(entry)).unwrap_or("?");
    let reason = format!("tensor `{found}` {reason}, and cannot be packed; check the checkpoint");
    Error::Unsupported { path: checkpoint.path(entry).to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch is as small as it may be: no part of a model makes packing take more memory than this.
    #[test]
    fn batches_are_bounded() {
        for format in Format::ALL {
            for columns in [32, 4096, 28_672, 1 << 20] {
                let rows = run_of(format, columns, BATCH);
                assert!(rows.is_multiple_of(format.block_rows()));
                assert!(rows == format.block_rows() || rows * columns <= BATCH, "{format} {columns}: {rows}");
            }
        }
    }

    #[test]
    fn halves_are_widened() {
        let bytes = |half: u16| half.to_le_bytes();
        assert_eq!(widen(&bytes(bf16::from_f32(-1.5).to_bits()), DType::BF16), [-1.5]);
        assert_eq!(widen(&bytes(f16::from_f32(0.25).to_bits()), DType::F16), [0.25]);
        assert_eq!(widen(&7.5f32.to_le_bytes(), DType::F32), [7.5]);
    }
}
