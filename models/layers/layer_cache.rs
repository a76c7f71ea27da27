use burn::prelude::Tensor;

use super::{KvCache, State, StateShape};
use crate::Backend;

/// What a layer keeps of the tokens before.
#[derive(Debug, Clone)]
pub enum LayerCache<B: Backend> {
    /// Keys and values of each.
    Columns(KvCache<B>),
    /// A state that all of them went into.
    State(State<B>),
}

impl<B: Backend> LayerCache<B> {
    /// A state of this shape, or else room for `reserve` columns of keys and values; empty.
    pub fn new(state: Option<StateShape>, sliding_window: Option<usize>, reserve: usize) -> Self {
        match state {
            Some(shape) => Self::State(State::new(shape)),
            None => Self::Columns(KvCache::new(sliding_window, reserve)),
        }
    }

    /// Columns of all passes so far.
    pub fn total(&self) -> usize {
        match self {
            Self::Columns(cache) => cache.total(),
            Self::State(state) => state.total(),
        }
    }

    /// Keys and values, of a layer that has them.
    pub fn columns(&mut self) -> &mut KvCache<B> {
        match self {
            Self::Columns(cache) => cache,
            Self::State(_) => unreachable!("a layer with attention has no state"),
        }
    }

    /// The state, of a layer that has one.
    pub fn state(&mut self) -> &mut State<B> {
        match self {
            Self::State(state) => state,
            Self::Columns(_) => unreachable!("a layer with a state has no keys and values"),
        }
    }

    /// Some sequences of several caches of one kind in one, with room for `reserve` columns; the longest has `total`.
    pub fn joined(parts: &[(&Self, &[usize])], total: usize, reserve: usize) -> Self {
        let columns: Vec<_> = parts.iter().filter_map(|(part, rows)| Some((part.as_columns()?, *rows))).collect();
        let states: Vec<_> = parts.iter().filter_map(|(part, rows)| Some((part.as_state()?, *rows))).collect();
        match states.is_empty() {
            true => Self::Columns(KvCache::joined(&columns, total, reserve)),
            false => Self::State(State::joined(&states, total)),
        }
    }

    /// Whether the first `total` columns are enough to go on from; a state cannot forget.
    pub fn can_truncate(&self, total: usize) -> bool {
        match self {
            Self::Columns(cache) => cache.can_truncate(total),
            Self::State(state) => total == 0 || total == state.total(),
        }
    }

    /// Goes back to the first `total` columns, where that [can be](Self::can_truncate).
    pub fn truncate(&mut self, total: usize) {
        match self {
            Self::Columns(cache) => cache.truncate(total),
            Self::State(state) if total == 0 => state.clear(),
            Self::State(_) => {}
        }
    }

    /// All that is kept: `[batch, num_kv_heads, columns, head_dim]` of each buffer, or a state's
    /// `[batch, 1, columns, channels]` and `[batch, heads, rows, columns]`.
    pub fn arrays(&self) -> Vec<Tensor<B, 4>> {
        match self {
            Self::Columns(cache) => cache.columns(),
            Self::State(state) => state.arrays(),
        }
    }

    /// Whether an array of these sizes can be one of those of a sequence of `total` columns.
    pub fn fits(&self, shape: &[usize], total: usize) -> bool {
        match self {
            Self::Columns(_) => shape.len() == 4 && shape[2] <= total,
            Self::State(state) => state.fits(shape),
        }
    }

    /// An empty cache with such arrays put into it, what `total` columns left.
    pub fn with_arrays(self, arrays: Vec<Tensor<B, 4>>, total: usize) -> Self {
        match self {
            Self::Columns(cache) => Self::Columns(cache.with_columns(arrays, total)),
            Self::State(state) => Self::State(state.with_arrays(arrays, total)),
        }
    }

    fn as_columns(&self) -> Option<&KvCache<B>> {
        match self {
            Self::Columns(cache) => Some(cache),
            Self::State(_) => None,
        }
    }

    fn as_state(&self) -> Option<&State<B>> {
        match self {
            Self::State(state) => Some(state),
            Self::Columns(_) => None,
        }
    }
}
