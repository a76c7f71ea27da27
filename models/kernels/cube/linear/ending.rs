use cubecl::prelude::*;

use super::block::Block;
use super::weights::{Weights, bias_of};
use crate::config::Activation;
use crate::kernels::cube::elementwise::{Pairwise, combined};

/// How a result ends, for kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// As [`End::Each`](super::product::End::Each).
    Each,
    /// As [`End::Gated`](super::product::End::Gated).
    Gated(Activation),
    /// As [`End::Add`](super::product::End::Add).
    Add,
}

impl Ending {
    /// Whether two matrices make one result.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Gated(_))
    }
}

/// What a sum for row `output` of a block's matrix becomes, to be put at `at` of the result; `partner` is the sum for the
/// same row of the second matrix, where the first is a gate.
#[cube]
pub fn ended<X: Float, W: Numeric, S: Numeric, A: Float, M: Size>(
    sum: f32,
    partner: f32,
    matrices: &Sequence<Weights<W, S, A, M>>,
    residual: &ComptimeOption<Array<X>>,
    block: &Block,
    output: usize,
    at: usize,
    #[comptime] layers: usize,
    #[comptime] bias: bool,
    #[comptime] end: Ending,
) -> X {
    let (mut sum, mut partner) = (sum, partner);
    if bias {
        sum += bias_of::<W, S, A, M>(matrices, block.matrix, output, layers);
    }
    match end {
        Ending::Each => {}
        Ending::Add => {
            sum += f32::cast_from(residual.as_ref().unwrap()[at]);
        }
        Ending::Gated(activation) => {
            if bias {
                partner += f32::cast_from(matrices.index(1usize).bias.as_ref().unwrap()[output]);
            }
            let pair =
                combined::<Const<1>>(Vector::new(sum), Vector::new(partner), comptime!(Pairwise::Gated(activation)));
            sum = pair[0];
        }
    }
    X::cast_from(sum)
}
