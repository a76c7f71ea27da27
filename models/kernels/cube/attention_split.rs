use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::launch;
use super::tensor::{array, unwritten};

/// Runs of keys that one query is attended from in as many cubes, so that few queries keep a device busy.
///
/// Flash-decoding: Dao, Haziza, Massa & Sizov 2023.
#[derive(Debug, Clone, Copy)]
pub struct Splits {
    pub count: usize,
    /// Keys of each.
    pub len: usize,
}

/// Runs at most: what they leave behind has to be put together by one unit.
const MOST: usize = 32;

impl Splits {
    /// As near to `wanted` as `keys` allow that are gone through `block` at a time.
    pub fn new(keys: usize, block: usize, wanted: usize) -> Self {
        let blocks = keys.div_ceil(block);
        let len = blocks.div_ceil(wanted.min(blocks).clamp(1, MOST)) * block;
        Self { count: keys.div_ceil(len), len }
    }

    /// What a run leaves behind: mixtures of values, and the highest scores with the sums of weights.
    pub fn memory<R: CubeRuntime>(&self, out: &CubeTensor<R>) -> (CubeTensor<R>, CubeTensor<R>) {
        if self.count == 1 {
            return (out.clone(), out.clone());
        }
        let [batch, queries, heads, head_dim] = out.meta.shape().dims();
        let new = |last: usize| {
            let shape = Shape::from([self.count * batch * queries * heads, last]);
            unwritten::<R>(&out.device, shape, DType::F32)
        };
        (new(head_dim), new(2))
    }

    /// Puts the runs together, where there are several.
    pub fn join<R: CubeRuntime>(
        &self,
        shares: &CubeTensor<R>,
        marks: &CubeTensor<R>,
        out: &CubeTensor<R>,
        width: usize,
    ) {
        if self.count == 1 {
            return;
        }
        let [batch, queries, heads, head_dim]: [usize; 4] = out.meta.shape().dims();
        let rows = batch * queries * heads;
        let dtype = out.dtype.into();
        // SAFETY: a cube reads and writes its own row alone, of which there are as many as cubes.
        unsafe {
            launch!(
                join::Join beside out,
                CubeCount::Static(rows as u32, 1, 1),
                CubeDim::new_1d((head_dim / width) as u32);
                X = dtype; N = width;
                shares: Array<Vector<f32, join::N>> = array(shares),
                marks: Array<f32> = array(marks),
                out: Array<Vector<join::X, join::N>> = array(out),
                rows: usize = rows,
                splits: usize = self.count;
                dtype = dtype,
            );
        }
    }
}

/// One cube puts one head of one query together, a unit a vector.
#[cube(launch_unchecked)]
fn join<X: Float, N: Size>(
    shares: &Array<Vector<f32, N>>, // [splits, rows, head_dim]
    marks: &Array<f32>,             // [splits, rows, 2]
    out: &mut Array<Vector<X, N>>,  // [rows, head_dim]
    rows: usize,
    splits: usize,
    #[define(X)] _dtype: StorageType,
) {
    let (row, vectors) = (CUBE_POS_X as usize, CUBE_DIM_X as usize);
    let mut top = f32::min_value();
    for split in 0..splits {
        top = max(top, marks[2 * (split * rows + row)]);
    }
    let mut sum = 0.0f32;
    let mut mixture = Vector::<f32, N>::new(0.0f32);
    for split in 0..splits {
        let at = split * rows + row;
        let weight = f32::exp(marks[2 * at] - top);
        sum += marks[2 * at + 1] * weight;
        mixture += shares[at * vectors + UNIT_POS_X as usize] * Vector::new(weight);
    }
    // A query of padding has seen nothing: 0 / tiny.
    let share = mixture * Vector::new(1.0f32 / max(sum, f32::MIN_POSITIVE));
    out[row * vectors + UNIT_POS_X as usize] = Vector::cast_from(share);
}
