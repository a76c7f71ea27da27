use std::ops::Range;

use burn::tensor::TensorData;
use rayon::prelude::*;

/// Which positions of a pass to compute logits of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The last of every sequence.
    Last,
    /// All of them, padding included.
    All,
}

/// So many logits take one thread longer to look at than it takes to wake others, some 60 µs.
const MANY: usize = 1 << 18;

/// Whether it is worth while to look at several rows of logits side by side.
pub(crate) fn are_many(rows: usize, logits: usize) -> bool {
    rows > 1 && logits >= MANY
}

/// Logits in f32, one row of `vocab_size` for each position that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logits {
    /// Where they were read to: of a large vocabulary each copy costs as much as choosing a token.
    values: TensorData,
    vocab_size: usize,
}

impl Logits {
    pub(super) fn new(rows: usize, vocab_size: usize) -> Self {
        Self { values: TensorData::new(vec![0.0f32; rows * vocab_size], [rows, vocab_size]), vocab_size }
    }

    /// All of them, row by row, as a device gives them.
    pub(super) fn fill(&mut self, values: TensorData) {
        self.values = values.convert::<f32>();
    }

    /// Puts some columns of some rows into place; `values` holds them row by row.
    pub(super) fn put(&mut self, rows: impl Iterator<Item = usize>, columns: &Range<usize>, values: TensorData) {
        let values = values.convert::<f32>();
        let values = values.as_slice::<f32>().expect(F32).chunks(columns.len());
        let all = self.values.as_mut_slice::<f32>().expect(F32);
        for (row, values) in rows.zip(values) {
            all[row * self.vocab_size..][columns.clone()].copy_from_slice(values);
        }
    }

    /// The last `width` columns of every sequence that has `columns` of them.
    pub(super) fn last_columns(self, columns: usize, width: usize) -> Self {
        let (row, from) = (columns * self.vocab_size, columns.saturating_sub(width) * self.vocab_size);
        let values: Vec<f32> = self.values().chunks(row.max(1)).flat_map(|row| &row[from..]).copied().collect();
        let shape = [values.len() / self.vocab_size.max(1), self.vocab_size];
        Self { values: TensorData::new(values, shape), ..self }
    }

    pub(super) fn are_finite(&self) -> bool {
        // Among magnitudes, bits are in the order of numbers, and what is not finite comes last.
        let greatest = |row: &[f32]| row.iter().fold(0, |greatest, logit| greatest.max(logit.to_bits() & 0x7fff_ffff));
        let is_finite = |row: &[f32]| f32::from_bits(greatest(row)).is_finite();
        let values = self.values();
        match are_many(values.len() / self.vocab_size.max(1), values.len()) {
            true => values.par_chunks(self.vocab_size).all(is_finite),
            false => is_finite(values),
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values().chunks(self.vocab_size)
    }

    fn values(&self) -> &[f32] {
        self.values.as_slice().expect(F32)
    }
}

const F32: &str = "logits are in f32";

#[cfg(test)]
mod tests {
    use super::*;

    /// In any row, be they many or few.
    #[test]
    fn a_logit_that_is_no_number_is_found() {
        for vocab_size in [3, MANY / 2] {
            let mut logits = Logits::new(3, vocab_size);
            assert!(logits.are_finite());
            for (row, logit) in [(2, f32::NAN), (0, f32::NEG_INFINITY)] {
                logits.put([row].into_iter(), &(vocab_size - 1..vocab_size), TensorData::from([logit]));
                assert!(!logits.are_finite());
                logits.put([row].into_iter(), &(vocab_size - 1..vocab_size), TensorData::from([0.0f32]));
            }
        }
    }
}
