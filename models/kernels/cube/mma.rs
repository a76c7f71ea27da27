//! Matrix products of a plane: `[16, 16] · [16, 8]`, operands and sums spread over its units' registers.
//!
//! Unit `4 · i + j` holds of the left operand rows `i` and `i + 8`, of the right one column `i`, and of each its `j`th
//! pairs of the depth; of the sums rows `i` and `i + 8` at columns `2 · j` and `2 · j + 1`. Which numbers of the depth
//! make up a pair is free, as long as both operands agree: so each unit loads whole vectors and takes its pairs from
//! them, and nothing has to change places, save where codes lie otherwise.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::cmma::MmaDefinition;
use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// Rows of the left operand, and numbers of the depth.
pub const TILE: usize = 16;

/// Columns of the right operand.
pub const COLUMNS: usize = 8;

/// Two numbers of 16 bits, or two sums.
pub type Pair<X> = Vector<X, Const<2>>;

/// Whether the device multiplies numbers of this dtype so.
pub fn has_mma<R: CubeRuntime>(client: &ComputeClient<R>, dtype: DType) -> bool {
    let config = MmaConfig {
        a_type: dtype.into(),
        b_type: dtype.into(),
        cd_type: ElemType::Float(FloatKind::F32).into(),
        m: TILE as u32,
        n: COLUMNS as u32,
        k: TILE as u32,
    };
    matches!(dtype, DType::F16 | DType::BF16) && client.properties().features.matmul.mma.contains(&config)
}

/// Adds the product of `left` (4 pairs) and `right` (2 pairs) to `sums` (2 pairs).
///
/// `left` is rows `i`, `i + 8` of the first pairs, then of the second; `sums` is row `i`, row `i + 8`.
#[cube]
pub fn multiply<X: Float>(left: &Array<Pair<X>>, right: &Array<Pair<X>>, sums: &mut Array<Pair<f32>>) {
    let definition = MmaDefinition::<X, X, f32>::new(TILE, COLUMNS, TILE);
    definition.execute_inplace(left, right, sums);
}

/// Two numbers that stand in two vectors.
#[cube]
pub fn pair<X: Float, N: Size>(
    a: Vector<X, N>,
    #[comptime] i: usize,
    b: Vector<X, N>,
    #[comptime] j: usize,
) -> Pair<X> {
    let mut pair = Pair::<X>::empty();
    pair[0] = a[i];
    pair[1] = b[j];
    pair
}

/// Sums that are nought.
#[cube]
pub fn nought() -> Array<Pair<f32>> {
    let mut sums = Array::<Pair<f32>>::new(2usize);
    sums[0] = Pair::new(0.0f32);
    sums[1] = Pair::new(0.0f32);
    sums
}
