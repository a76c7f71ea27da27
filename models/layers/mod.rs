//! Parts shared by every architecture.

pub mod attention;
mod cache;
mod decoder;
mod head;
mod linear;
mod mask;
mod mlp;
mod norm;
mod rope;
mod self_attention;

pub use attention::{Attention, AttentionInput, Eager, Sdpa};
pub use cache::{Alive, KvCache};
pub use decoder::PreNormLayer;
pub use head::Head;
pub use linear::Linear;
pub use mask::{Mask, PAD, Visibility};
pub use mlp::GatedMlp;
pub use norm::RmsNorm;
pub use rope::{Rope, RopeParameters, RopeType};
pub use self_attention::{SelfAttention, SelfAttentionConfig};

use burn::module::{Param, ParamId};
use burn::prelude::{Shape, Tensor};

use crate::Backend;

/// What one layer needs for its part of a pass.
pub struct Step<'a, B: Backend> {
    /// Rotations of this pass's positions.
    pub rope: &'a Rope<B>,
    /// The layer's keys and values.
    pub cache: &'a mut KvCache<B>,
    /// Positions of this pass's queries, row by row `[batch, seq]`, [`PAD`] where there is none.
    pub queries: &'a Positions,
    /// Positions of all columns of the KV cache, this pass's included, `[batch, past + seq]`.
    pub keys: &'a Positions,
    /// How scores become a mixture of values.
    pub attention: &'a dyn Attention<B>,
}

/// Positions `[batch, columns]` of the tokens of a batch, held on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    batch: usize,
    columns: usize,
    positions: Vec<i32>,
}

impl Positions {
    /// Takes positions row by row; their number is `batch · columns`.
    pub fn new(batch: usize, positions: Vec<i32>) -> Self {
        let columns = positions.len() / batch.max(1);
        assert_eq!(positions.len(), batch * columns, "positions fill whole rows");
        Self { batch, columns, positions }
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Positions of each sequence, padding included.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The positions of sequence `row`.
    pub fn row(&self, row: usize) -> &[i32] {
        &self.positions[row * self.columns..][..self.columns]
    }

    /// All positions, row by row.
    pub fn as_slice(&self) -> &[i32] {
        &self.positions
    }

    /// The number of positions that the longest sequence has: its last position plus one.
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |last| (last + 1).max(0) as usize)
    }

    /// These columns followed by `more`.
    pub fn extended(&self, more: &Self) -> Self {
        assert_eq!(self.batch, more.batch, "the sequences stay the same");
        let rows = (0..self.batch).flat_map(|row| self.row(row).iter().chain(more.row(row)));
        Self::new(self.batch, rows.copied().collect())
    }
}

/// A parameter that has a shape and no value until the record loader brings one.
fn parameter<B: Backend, const D: usize>(shape: [usize; D], device: &B::Device) -> Param<Tensor<B, D>> {
    let unread = move |_: &B::Device, _| unreachable!("a parameter of shape {shape:?} was read before it was loaded");
    Param::uninitialized(ParamId::new(), unread, device.clone(), false, Shape::from(shape))
}
