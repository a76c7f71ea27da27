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

/// Runs at most: what they leave behind has to be put together by one cube.
const MOST: usize = 32;

/// Units of such a cube, at most, unless a head has more vectors.
const UNITS: usize = 256;

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
        let vectors = head_dim / width;
        let parties = (UNITS / vectors).max(1);
        // SAFETY: a cube reads and writes its own row alone, of which there are as many as cubes.
        unsafe {
            launch!(
                join::Join beside out,
                CubeCount::Static(rows as u32, 1, 1),
                CubeDim::new_2d(vectors as u32, parties as u32);
                X = dtype; N = width;
                shares: Array<Vector<f32, join::N>> = array(shares),
                marks: Array<f32> = array(marks),
                out: Array<Vector<join::X, join::N>> = array(out),
                rows: usize = rows,
                splits: usize = self.count;
                vectors = vectors, parties = parties, dtype = dtype,
            );
        }
    }
}

/// One cube puts one head of one query together, with a party of units for each of several runs at once, since the time
/// goes in waiting for memory.
#[cube(launch_unchecked)]
fn join<X: Float, N: Size>(
    shares: &Array<Vector<f32, N>>, // [splits, rows, head_dim]
    marks: &Array<f32>,             // [splits, rows, 2]
    out: &mut Array<Vector<X, N>>,  // [rows, head_dim]
    rows: usize,
    splits: usize,
    #[comptime] vectors: usize,
    #[comptime] parties: usize,
    #[define(X)] _dtype: StorageType,
) {
    let (row, x, party) = (CUBE_POS_X as usize, UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let mut tops = SharedMemory::<f32>::new(parties);
    let mut sums = SharedMemory::<f32>::new(parties);
    let mut mixtures = SharedMemory::<Vector<f32, N>>::new(comptime!(parties * vectors));
    let (mut top, mut sum) = (f32::min_value(), 0.0f32);
    let mut mixture = Vector::<f32, N>::new(0.0f32);
    let mut split = party;
    while split < splits {
        let at = split * rows + row;
        let (mark, share) = (marks[2 * at], shares[at * vectors + x]);
        let highest = max(top, mark);
        let (before, weight) = (f32::exp(top - highest), f32::exp(mark - highest));
        sum = sum * before + marks[2 * at + 1] * weight;
        mixture = mixture * Vector::new(before) + share * Vector::new(weight);
        top = highest;
        split += parties;
    }
    tops[party] = top;
    sums[party] = sum;
    mixtures[party * vectors + x] = mixture;
    sync_cube();
    if party == 0 {
        #[unroll]
        for party in 0..parties {
            top = max(top, tops[party]);
        }
        sum = 0.0f32;
        mixture = Vector::new(0.0f32);
        #[unroll]
        for party in 0..parties {
            let weight = f32::exp(tops[party] - top);
            sum += sums[party] * weight;
            mixture += mixtures[party * vectors + x] * Vector::new(weight);
        }
        // A query of padding has seen nothing: 0 / tiny.
        let share = mixture * Vector::new(1.0f32 / max(sum, f32::MIN_POSITIVE));
        out[row * vectors + x] = Vector::cast_from(share);
    }
}
