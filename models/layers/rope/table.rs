use std::collections::HashMap;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};

use super::RopeParameters;
use crate::layers::Positions;
use crate::{Backend, portable};

/// Rotations of one pass's positions (Su et al. 2021, arXiv 2104.09864).
///
/// The first numbers of a head turn, twice as many as the tables are wide; the others stay. Pairs are a number of the
/// first half of them and its like of the second, as in most Hugging Face checkpoints, or neighbours.
#[derive(Debug, Clone)]
pub struct Rope<B: Backend> {
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
    interleaved: bool,
}

impl<B: Backend> Rope<B> {
    /// Tables for `positions`, which may be a part of a pass; `seq_len` is the length of its longest sequence.
    pub fn new(
        parameters: &RopeParameters,
        head_dim: usize,
        positions: &Positions,
        seq_len: usize,
        device: &B::Device,
    ) -> Self {
        Self::by_row(parameters, head_dim, positions, &vec![seq_len; positions.batch()], device)
    }

    /// The same with a length of its own for each sequence.
    pub fn by_row(
        parameters: &RopeParameters,
        head_dim: usize,
        positions: &Positions,
        lengths: &[usize],
        device: &B::Device,
    ) -> Self {
        let width = parameters.rotary_dim.unwrap_or(head_dim);
        let mut known = HashMap::new();
        for &length in lengths {
            known.entry(length).or_insert_with(|| parameters.inverse_frequencies(width, length));
        }
        let table = |f: fn(f32) -> f32| {
            let row = |(row, length): (usize, &usize)| {
                let (inverse, scale) = &known[length];
                let angles = positions.row(row).iter().flat_map(|&p| inverse.iter().map(move |w| p.max(0) as f32 * w));
                angles.map(|angle| f(angle) * scale).collect::<Vec<_>>()
            };
            let values: Vec<f32> = lengths.iter().enumerate().flat_map(row).collect();
            let shape = [positions.batch(), 1, positions.columns(), width / 2];
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        Self { cos: table(f32::cos), sin: table(f32::sin), interleaved: parameters.interleaved }
    }

    /// Cosines `[batch, 1, seq, pairs]`, f32.
    pub fn cos(&self) -> Tensor<B, 4> {
        self.cos.clone()
    }

    /// Sines `[batch, 1, seq, pairs]`, f32.
    pub fn sin(&self) -> Tensor<B, 4> {
        self.sin.clone()
    }

    /// Whether all of a head of this width turns, its halves together.
    pub fn is_plain(&self, head_dim: usize) -> bool {
        !self.interleaved && 2 * self.cos.dims()[3] == head_dim
    }

    /// Tables of the same positions that turn nothing.
    pub fn still(&self) -> Self {
        Self { cos: self.cos.ones_like(), sin: self.sin.zeros_like(), interleaved: self.interleaved }
    }

    /// Heads `[batch, heads, seq, head_dim]`, turned.
    pub fn rotate(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match self.interleaved {
            true => portable::rotate_neighbours(x, self.cos(), self.sin()),
            false => portable::rotate(x, self.cos(), self.sin()),
        }
    }
}
