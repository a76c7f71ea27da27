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
}
