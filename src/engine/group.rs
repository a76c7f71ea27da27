use std::borrow::Cow;

use leveret_models::Backend;
use leveret_models::layers::Positions;

use super::{Logits, Rows};
use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::error::{Error, Result};

/// Sequences that share a cache, and the tokens that a pass takes of each.
pub(crate) struct Group<'a, B: Backend> {
    /// Of every sequence some, which may differ in number.
    pub(super) tokens: Cow<'a, [Vec<u32>]>,
    pub(super) cache: &'a mut Cache<B>,
    pub(super) rows: Rows,
    /// Where they stand, `[batch, columns]`, padded on the left to a common width.
    pub(super) positions: Positions,
    /// Columns that were asked for, where the pass computes more.
    asked: Option<usize>,
}

impl<'a, B: Backend> Group<'a, B> {
    pub(crate) fn new(tokens: &'a [Vec<u32>], cache: &'a mut Cache<B>, rows: Rows) -> Self {
        let positions = cache.positions_of(&tokens.iter().map(Vec::len).collect::<Vec<_>>());
        Self { tokens: Cow::Borrowed(tokens), cache, rows, positions, asked: None }
    }

    /// Tokens of all sequences.
    pub(super) fn count(&self) -> usize {
        self.tokens.iter().map(Vec::len).sum()
    }

    /// Rows of logits that are put together on the host: none where the last position alone is asked for.
    pub(super) fn all_logits(&self) -> usize {
        match self.rows {
            Rows::Last => 0,
            Rows::All => self.positions.batch() * self.positions.columns(),
        }
    }

    /// Refuses tokens that there is no room for.
    pub(super) fn check(&self) -> Result<()> {
        if self.tokens.iter().any(Vec::is_empty) || self.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let requested = self.cache.columns().columns() + self.positions.columns();
        let room = self.cache.reserve();
        match requested > room {
            true => Err(Error::TooLong { requested, prompt: requested, max_tokens: 0, max_positions: room }),
            false => Ok(()),
        }
    }

    /// Takes note of the columns of a pass that begins; where everything is computed anew, of all tokens so far.
    pub(super) fn begin(&mut self, decoder: &dyn Decoder<B>) {
        let whole = decoder.recomputes_beyond().and_then(|beyond| self.cache.restart(&self.tokens, beyond, decoder));
        if let Some(whole) = whole {
            self.asked = self.tokens.iter().map(Vec::len).max();
            self.positions = self.cache.positions_of(&whole.iter().map(Vec::len).collect::<Vec<_>>());
            self.tokens = Cow::Owned(whole);
        }
        self.cache.begin(&self.positions, &self.tokens);
    }

    /// Goes back to before a pass that has failed: some layers have seen its tokens, others have not.
    pub(super) fn undo(&mut self) {
        let before = self.cache.columns().columns() - self.positions.columns();
        self.cache.truncate(before);
    }

    /// Of the logits of a pass those that were asked for.
    pub(super) fn answer(&self, logits: Logits) -> Logits {
        match self.asked.filter(|_| self.rows == Rows::All) {
            Some(width) => logits.last_columns(self.positions.columns(), width),
            None => logits,
        }
    }

    /// The ids of every sequence, padded on the left with its first: numbers of the usual size, which nobody sees.
    pub(super) fn padded(&self) -> Vec<Vec<u32>> {
        let row = |tokens: &Vec<u32>| {
            let padding = std::iter::repeat_n(tokens[0], self.positions.columns() - tokens.len());
            padding.chain(tokens.iter().copied()).collect()
        };
        self.tokens.iter().map(row).collect()
    }
}
