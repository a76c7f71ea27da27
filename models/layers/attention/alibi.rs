use std::ops::Range;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use half::bf16;

use crate::Backend;
use crate::layers::Mask;

/// Lowers scores with the distance between query and key, by a slope of each head (Press et al. 2021, arXiv 2108.12409).
///
/// What is added is the slope times the key's position: softmax sees differences alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Alibi {
    slopes: Vec<f32>,
    /// What positions times slopes are multiplied by.
    scale: f32,
    /// Whether slopes and products are rounded to bf16.
    coarse: bool,
}

impl Alibi {
    /// The published slopes of `heads` heads: powers of one base, and for what exceeds a power of two every other one of
    /// the next base.
    pub fn new(heads: usize) -> Self {
        let whole = 1 << heads.max(1).ilog2();
        let power = |count: usize, i: usize| 2f32.powf(-8.0 / count as f32).powi(i as i32);
        let more = (0..heads - whole.min(heads)).map(|i| power(2 * whole, 2 * i + 1));
        Self::of((1..=whole).map(|i| power(whole, i)).chain(more).collect())
    }

    /// The slopes of MPT: those of the next power of two, every other one first.
    pub fn of_mpt(heads: usize) -> Self {
        let whole = heads.next_power_of_two();
        let slope = |i: usize| 1.0 / 2f32.powf(i as f32 * (8.0 / whole as f32));
        let order: Vec<_> = match whole == heads {
            true => (1..=whole).collect(),
            false => (2..=whole).step_by(2).chain((1..=whole).step_by(2)).take(heads).collect(),
        };
        Self::of(order.into_iter().map(slope).collect())
    }

    fn of(slopes: Vec<f32>) -> Self {
        Self { slopes, scale: 1.0, coarse: false }
    }

    /// In bf16, and scaled as scores are, as Falcon has it.
    pub fn coarse(mut self, scale: f64) -> Self {
        self.slopes.iter_mut().for_each(|slope| *slope = bf16::from_f32(*slope).to_f32());
        Self { scale: scale as f32, coarse: true, ..self }
    }

    /// What to add to the scores of the keys `k`, in f32: `[batch, heads, 1, k]`.
    pub(super) fn bias<B: Backend>(&self, mask: &Mask<'_>, k: Range<usize>, device: &B::Device) -> Tensor<B, 4> {
        match self.coarse {
            true => self.rounded(mask, k, device),
            false => {
                let (batch, columns) = (mask.batch(), mask.key_positions().columns());
                let keys = mask.key_positions().on_device::<B>(device).reshape([batch, 1, 1, columns]);
                let keys = keys.narrow(3, mask.dropped() + k.start, k.len()).clamp_min(0).float().cast(DType::F32);
                let slopes = TensorData::new(self.slopes.clone(), [1, self.slopes.len(), 1, 1]);
                keys * Tensor::from_data(slopes, (device, DType::F32))
            }
        }
    }

    /// The same with slopes, positions and products in bf16, which not every device knows.
    fn rounded<B: Backend>(&self, mask: &Mask<'_>, k: Range<usize>, device: &B::Device) -> Tensor<B, 4> {
        let round = |x: f32| bf16::from_f32(x).to_f32();
        let shape = [mask.batch(), self.slopes.len(), 1, k.len()];
        let mut values = Vec::with_capacity(shape.iter().product());
        for row in 0..mask.batch() {
            let keys = &mask.key_positions().row(row)[mask.dropped()..][k.clone()];
            for slope in &self.slopes {
                values.extend(keys.iter().map(|key| self.scale * round(slope * round((*key).max(0) as f32))));
            }
        }
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_published_ones() {
        assert_eq!(Alibi::new(8).slopes[..3], [0.5, 0.25, 0.125]);
        let near = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&Alibi::new(6).slopes, &[0.25, 0.0625, 0.015_625, 0.003_906_25, 0.5, 0.125]));
        assert!(near(&Alibi::of_mpt(3).slopes, &[0.0625, 0.003_906_25, 0.25]));
        assert!(near(&Alibi::of_mpt(2).slopes, &[0.0625, 0.003_906_25]));
    }
}
