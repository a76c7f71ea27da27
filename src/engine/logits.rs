use std::ops::Range;

/// Which positions of a pass to compute logits of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The last of every sequence.
    Last,
    /// All of them, padding included.
    All,
}

/// Logits in f32, one row of `vocab_size` for each position that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logits {
    values: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
    pub(super) fn new(rows: usize, vocab_size: usize) -> Self {
        Self { values: vec![0.0; rows * vocab_size], vocab_size }
    }

    /// Puts some columns of some rows into place; `values` holds them row by row.
    pub(super) fn put(&mut self, rows: impl Iterator<Item = usize>, columns: &Range<usize>, values: &[f32]) {
        for (row, values) in rows.zip(values.chunks(columns.len())) {
            self.values[row * self.vocab_size..][columns.clone()].copy_from_slice(values);
        }
    }

    /// The last `width` columns of every sequence that has `columns` of them.
    pub(super) fn last_columns(self, columns: usize, width: usize) -> Self {
        let (row, from) = (columns * self.vocab_size, columns.saturating_sub(width) * self.vocab_size);
        let values = self.values.chunks(row.max(1)).flat_map(|row| &row[from..]).copied().collect();
        Self { values, vocab_size: self.vocab_size }
    }

    pub(super) fn are_finite(&self) -> bool {
        // Among magnitudes, bits are in the order of numbers, and what is not finite comes last.
        let greatest = self.values.iter().fold(0, |greatest, logit| greatest.max(logit.to_bits() & 0x7fff_ffff));
        f32::from_bits(greatest).is_finite()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.vocab_size)
    }
}
