//! The KV cache of a batch: one part for each layer, and whose token stands in which column.

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
#[derive(Debug)]
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
    /// The tokens of each sequence, where they may have to be computed anew.
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

    /// Remembers the tokens of a pass that begins; gives all of every sequence, and becomes empty, where the pass takes
    /// the longest of them over the length `beyond`.
    pub(crate) fn restart(
        &mut self,
        tokens: &[Vec<u32>],
        beyond: usize,
        decoder: &dyn Decoder<B>,
    ) -> Option<Vec<Vec<u32>>> {
        self.tokens.iter_mut().zip(tokens).for_each(|(all, new)| all.extend(new));
        let before = self.lengths.iter().copied().max().unwrap_or(0);
        let after = self.tokens.iter().map(Vec::len).max().unwrap_or(0);
        if before == 0 || before > beyond || after <= beyond {
            return None;
        }
        let whole = std::mem::take(&mut self.tokens);
        *self = Self { tokens: whole.clone(), ..Self::new(decoder, whole.len(), self.reserve) };
        Some(whole)
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

    /// Takes note of the columns of a pass that begins.
    pub(crate) fn begin(&mut self, positions: &Positions) {
        let first = self.columns.columns() == 0;
        self.columns = self.columns.extended(positions);
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
