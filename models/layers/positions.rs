use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::prelude::{Int, Tensor};
use burn::tensor::{DType, TensorData};

use super::PAD;
use crate::Backend;

/// Positions `[batch, columns]` of the tokens of a batch, held on the host.
///
/// A device that masks by itself asks for a copy, which is made once and shared by all layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    batch: usize,
    columns: usize,
    positions: Vec<i32>,
    copies: Copies,
}

impl Positions {
    /// Takes positions row by row; their number is `batch · columns`.
    pub fn new(batch: usize, positions: Vec<i32>) -> Self {
        let columns = positions.len() / batch.max(1);
        assert_eq!(positions.len(), batch * columns, "positions fill whole rows");
        Self { batch, columns, positions, copies: Copies::default() }
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

    /// All positions on a device, `[batch · columns]` in i32; uploaded once.
    pub fn on_device<B: Backend>(&self, device: &B::Device) -> Tensor<B, 1, Int> {
        self.copies.get_or_make(device, || {
            let data = TensorData::new(self.positions.clone(), [self.positions.len()]);
            Tensor::from_data(data, (device, DType::I32))
        })
    }

    /// The number of positions that the longest sequence has: its last position plus one.
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |last| (last + 1).max(0) as usize)
    }

    /// Hidden states `[batch, seq, width]` of tokens at these positions, zero where there is no token.
    pub fn without_padding<B: Backend>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        if !self.positions.contains(&PAD) {
            return x;
        }
        let tokens: Vec<f32> = self.positions.iter().map(|position| f32::from(u8::from(*position != PAD))).collect();
        let tokens = TensorData::new(tokens, [self.batch, self.columns, 1]);
        let (device, dtype) = (x.device(), x.dtype());
        x * Tensor::<B, 3>::from_data(tokens, (&device, DType::F32)).cast(dtype)
    }

    /// The columns of a range alone.
    pub fn narrow(&self, columns: Range<usize>) -> Self {
        let rows = (0..self.batch).flat_map(|row| &self.row(row)[columns.clone()]);
        Self::new(self.batch, rows.copied().collect())
    }

    /// These columns followed by `more`.
    pub fn extended(&self, more: &Self) -> Self {
        assert_eq!(self.batch, more.batch, "the sequences stay the same");
        let rows = (0..self.batch).flat_map(|row| self.row(row).iter().chain(more.row(row)));
        Self::new(self.batch, rows.copied().collect())
    }
}

/// Copies on devices, one for each device of each backend: pairs of the device and its tensor.
///
/// They say nothing that the positions do not: equal to all others, and not cloned.
#[derive(Default)]
struct Copies(Mutex<Vec<Box<dyn Any + Send>>>);

impl Copies {
    fn get_or_make<D, T>(&self, device: &D, make: impl FnOnce() -> T) -> T
    where
        D: Clone + PartialEq + Send + 'static,
        T: Clone + Send + 'static,
    {
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = copies.iter().filter_map(|copy| copy.downcast_ref::<(D, T)>());
        if let Some((_, copy)) = found.find(|(on, _)| on == device) {
            return copy.clone();
        }
        let copy = make();
        copies.push(Box::new((device.clone(), copy.clone())));
        copy
    }
}

impl Clone for Copies {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Copies {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Copies {}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}
