use super::entry::Entry;
use super::matrix::BLOCK;
use super::team;

/// `x` turned: for each group of as many rows as a register holds, `[inputs, lanes]`, filled up with zeros.
pub(super) struct Columns<E> {
    entries: Vec<E>,
    /// Entries of a row: those of whole blocks of inputs.
    depth: usize,
    lanes: usize,
}

impl<E: Entry> Columns<E> {
    /// Turns `x`, `[rows, inputs]`.
    pub(super) fn new(x: &[f32], inputs: usize, lanes: usize) -> Self {
        let depth = inputs.next_multiple_of(BLOCK) / E::NUMBERS;
        let rows = x.len() / inputs;
        let mut entries = vec![E::default(); rows.div_ceil(lanes) * depth * lanes];
        team::each(entries.chunks_mut(depth * lanes).zip(x.chunks(inputs * lanes)), |(to, from)| {
            // A block at a time, which stays in the first-level cache while lane after lane is written.
            for (i, to) in to.chunks_mut(BLOCK / E::NUMBERS * lanes).enumerate() {
                for (lane, row) in from.chunks(inputs).enumerate() {
                    let block = &row[i * BLOCK..inputs.min((i + 1) * BLOCK)];
                    for (to, numbers) in to[lane..].iter_mut().step_by(lanes).zip(block.chunks(E::NUMBERS)) {
                        *to = E::of(numbers);
                    }
                }
            }
        });
        Self { entries, depth, lanes }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// `[depth, lanes]` each.
    pub(super) fn groups(&self) -> std::slice::ChunksExact<'_, E> {
        self.entries.chunks_exact(self.depth * self.lanes)
    }
}
