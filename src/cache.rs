//! The KV cache of a batch: one part for each layer, and whose token stands in which column.

use burn::prelude::Tensor;
use leveret_models::Backend;
use leveret_models::layers::{LayerCache, PAD, Positions};

use crate::decoder::Decoder;
use crate::error::{Error, Result};

/// How many columns a layer has to keep, if not all: later layers of a pass may read from it what its own next chunk of
/// queries does not see.
pub(crate) fn kept_window<B: Backend>(decoder: &dyn Decoder<B>, layer: usize) -> Option<usize> {
    let shared = || (layer + 1..decoder.dims().num_layers).any(|other| decoder.kv_layer(other) == layer);
    decoder.sliding_window(layer).filter(|_| !shared())
}

/// What layers keep of a batch of sequences: keys and values, or a state.
#[derive(Debug, Clone)]
pub struct Cache<B: Backend> {
    pub(crate) layers: Vec<LayerCache<B>>,
    /// Positions of all columns, padding included.
    columns: Positions,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
    /// Tokens of each in the first pass.
    prompts: Vec<usize>,
    /// Columns that room is made for.
    reserve: usize,
    /// The tokens of each sequence.
    tokens: Vec<Vec<u32>>,
}

impl<B: Backend> Cache<B> {
    /// An empty cache for `batch` sequences, with room for `reserve` columns.
    pub(crate) fn new(decoder: &dyn Decoder<B>, batch: usize, reserve: usize) -> Self {
        let layer = |i| LayerCache::new(decoder.state(i), kept_window(decoder, i), reserve);
        let layers = (0..decoder.dims().num_layers).map(layer).collect();
        let (lengths, prompts, tokens) = (vec![0; batch], vec![0; batch], vec![Vec::new(); batch]);
        Self { layers, columns: Positions::new(batch, Vec::new()), lengths, prompts, reserve, tokens }
    }

    /// Some sequences of several caches in one, with room for `reserve` columns.
    ///
    /// Layers are taken from the caches one by one, so that no more than one is there twice.
    pub(crate) fn joined(mut parts: Vec<(Self, Vec<usize>)>, reserve: usize) -> Self {
        let rows = || parts.iter().flat_map(|(cache, rows)| rows.iter().map(move |row| (cache, *row)));
        let lengths: Vec<_> = rows().map(|(cache, row)| cache.lengths[row]).collect();
        let prompts = rows().map(|(cache, row)| cache.prompts[row]).collect();
        let tokens = rows().map(|(cache, row)| cache.tokens[row].clone()).collect();
        let total = lengths.iter().copied().max().unwrap_or(0);
        let row = |length: &usize| std::iter::repeat_n(PAD, total - length).chain(0..*length as i32);
        let columns = Positions::new(lengths.len(), lengths.iter().flat_map(row).collect());
        let mut layers: Vec<_> =
            parts.iter_mut().map(|(cache, _)| std::mem::take(&mut cache.layers).into_iter()).collect();
        let mut joined = Vec::new();
        loop {
            let layer: Vec<_> = layers.iter_mut().filter_map(Iterator::next).collect();
            if layer.is_empty() {
                break;
            }
            let parts: Vec<_> = layer.iter().zip(&parts).map(|(layer, (_, rows))| (layer, rows.as_slice())).collect();
            joined.push(LayerCache::joined(&parts, total, reserve));
        }
        Self { layers: joined, columns, lengths, prompts, reserve, tokens }
    }

    /// Takes what every layer kept of one sequence, layer by layer its arrays.
    pub(crate) fn fill(&mut self, layers: Vec<Vec<Tensor<B, 4>>>, tokens: Vec<u32>) {
        let total = tokens.len();
        let empty = std::mem::take(&mut self.layers).into_iter();
        self.layers = empty.zip(layers).map(|(layer, arrays)| layer.with_arrays(arrays, total)).collect();
        self.columns = Positions::new(1, (0..total as i32).collect());
        (self.lengths, self.prompts, self.tokens) = (vec![total], vec![total], vec![tokens]);
    }

    /// Whether these sequences are all that it holds, in order and without columns that none of them has, and it has
    /// just as much room.
    pub(crate) fn holds(&self, rows: &[usize], reserve: usize) -> bool {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        rows.iter().copied().eq(0..self.lengths.len()) && longest == self.columns.columns() && reserve == self.reserve
    }

    /// Goes back to the first `columns` columns, or to none where a layer has forgotten what they need; gives how many
    /// are left.
    pub(crate) fn truncate(&mut self, columns: usize) -> usize {
        let possible = self.layers.iter().all(|layer| layer.can_truncate(columns));
        let columns = if possible { columns } else { 0 };
        self.layers.iter_mut().for_each(|layer| layer.truncate(columns));
        self.columns = self.columns.narrow(0..columns);
        for (row, (length, tokens)) in self.lengths.iter_mut().zip(&mut self.tokens).enumerate() {
            *length = self.columns.row(row).iter().filter(|position| **position != PAD).count();
            tokens.truncate(*length);
        }
        columns
    }

    /// All tokens of every sequence, and an empty cache, where a pass over `new` takes the longest over the length
    /// `beyond`.
    pub(crate) fn restart(
        &mut self,
        new: &[Vec<u32>],
        beyond: usize,
        decoder: &dyn Decoder<B>,
    ) -> Option<Vec<Vec<u32>>> {
        let whole: Vec<_> = self.tokens.iter().zip(new).map(|(all, new)| [all.as_slice(), new].concat()).collect();
        let before = self.lengths.iter().copied().max().unwrap_or(0);
        let after = whole.iter().map(Vec::len).max().unwrap_or(0);
        if before == 0 || before > beyond || after <= beyond {
            return None;
        }
        *self = Self::new(decoder, whole.len(), self.reserve);
        Some(whole)
    }

    /// The tokens of a sequence.
    pub(crate) fn tokens(&self, row: usize) -> &[u32] {
        &self.tokens[row]
    }

    /// Columns that room is made for.
    pub(crate) fn reserve(&self) -> usize {
        self.reserve
    }

    /// Tokens of each sequence in the first pass.
    pub(crate) fn prompts(&self) -> &[usize] {
        &self.prompts
    }

    pub(crate) fn columns(&self) -> &Positions {
        &self.columns
    }

    /// The positions of new tokens, `counts` of each sequence, padded on the left to a common width.
    pub(crate) fn positions_of(&self, counts: &[usize]) -> Positions {
        let width = counts.iter().copied().max().unwrap_or(0);
        let row = |(length, count): (&usize, &usize)| {
            let (length, count) = (*length as i32, *count);
            std::iter::repeat_n(PAD, width - count).chain(length..length + count as i32)
        };
        Positions::new(counts.len(), self.lengths.iter().zip(counts).flat_map(row).collect())
    }

    /// Takes note of the columns and tokens of a pass that begins.
    pub(crate) fn begin(&mut self, positions: &Positions, tokens: &[Vec<u32>]) {
        let first = self.columns.columns() == 0;
        self.columns = self.columns.extended(positions);
        self.tokens.iter_mut().zip(tokens).for_each(|(all, new)| all.extend(new));
        for (row, length) in self.lengths.iter_mut().enumerate() {
            *length += positions.row(row).iter().filter(|position| **position != PAD).count();
        }
        if first {
            self.prompts.clone_from(&self.lengths);
        }
    }

    /// An error unless layer `layer` holds exactly the columns of all passes so far.
    pub(crate) fn check(&self, layer: usize) -> Result<()> {
        let (expected, found) = (self.columns.columns(), self.layers[layer].total());
        match expected == found {
            true => Ok(()),
            false => Err(Error::CacheLength { layer, expected, found }),
        }
    }
}
