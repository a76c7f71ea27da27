use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::launch;
use super::tensor::{PLANE, Strides, array, contiguous, empty, has_planes, readable, strides, width};

/// Planes of a cube, each with a head of its own.
const PLANES: u32 = 4;

/// What the kernel reads of [`Heads`](crate::layers::Heads), and the buffers that it writes.
pub struct Heads<R: CubeRuntime> {
    /// `[batch, num_heads, seq, head_dim]`.
    pub q: CubeTensor<R>,
    /// `[batch, num_kv_heads, seq, head_dim]`.
    pub k: CubeTensor<R>,
    /// As the keys.
    pub v: CubeTensor<R>,
    /// Weights `[head_dim]` of the norms of queries and keys, and what their mean squares are raised by.
    pub norms: Option<([CubeTensor<R>; 2], f64)>,
    /// `[batch, 1, seq, head_dim / 2]` in f32.
    pub cos: CubeTensor<R>,
    /// As the cosines.
    pub sin: CubeTensor<R>,
    /// `[batch, num_kv_heads, capacity, head_dim]`; whether they may be written in place is the caller's to know.
    pub keys: CubeTensor<R>,
    /// As the keys.
    pub values: CubeTensor<R>,
    /// The first column to write.
    pub at: usize,
}

/// Norms and rotates queries and keys, and writes keys and values to their buffers, in one launch; gives the queries,
/// which lie token by token, `[batch, seq, num_heads, head_dim]` in memory. `None` says that nothing has been written.
pub fn append_heads<R: CubeRuntime>(heads: &Heads<R>) -> Option<CubeTensor<R>> {
    let Heads { q, k, v, keys, values, .. } = heads;
    let [batch, num_heads, seq, head_dim] = q.meta.shape().dims();
    let [_, kv_heads, capacity, _]: [usize; 4] = keys.meta.shape().dims();
    let half = head_dim / 2;
    let (cos, sin) = (contiguous(heads.cos.clone()), contiguous(heads.sin.clone()));
    let tables = [&cos, &sin].iter().all(|x| x.dtype == DType::F32 && x.meta.shape().dims() == [batch, 1, seq, half]);
    let same = [k, v, keys, values].iter().all(|x| x.dtype == q.dtype)
        && [k, v].iter().all(|x| x.meta.shape().dims() == [batch, kv_heads, seq, head_dim])
        && [keys, values].iter().all(|x| x.meta.shape().dims() == [batch, kv_heads, capacity, head_dim]);
    let whole = head_dim % 2 == 0 && q.meta.num_elements() > 0 && heads.at + seq <= capacity;
    if !tables || !same || !whole || !readable(&[q, k, v, keys, values]) || !has_planes(&q.client) {
        return None;
    }
    let gains: Vec<_> = heads.norms.iter().flat_map(|(gains, _)| gains).collect();
    let gain = gains.first().map_or(q.dtype, |gain| gain.dtype);
    if !readable(&gains) || gains.iter().any(|x| x.dtype != gain) {
        return None;
    }
    let all: Vec<_> = [q, k, v, &cos, &sin, keys, values].into_iter().chain(gains.iter().copied()).collect();
    let width = width(&all, &[half]);
    let mut rotated = empty(q, Shape::from([batch, seq, num_heads, head_dim]));
    let tasks = batch * seq * (num_heads + 2 * kv_heads);
    let [q_strides, k_strides, v_strides] = [strides(q, width)?, strides(k, width)?, strides(v, width)?];
    let [keys_strides, values_strides] = [strides(keys, width)?, strides(values, width)?];
    let types = [q.dtype, gain].map(DType::into);
    let sizes = SizesLaunch::new(num_heads, kv_heads, seq, half / width, heads.at, tasks, head_dim as f32);
    // SAFETY: columns lie inside the buffers, heads beyond the last are not touched.
    unsafe {
        launch!(
            place::Place beside q,
            CubeCount::Static((tasks as u32).div_ceil(PLANES), 1, 1),
            CubeDim::new_2d(PLANE, PLANES);
            X = types[0], G = types[1]; N = width;
            q: Array<Vector<place::X, place::N>> = array(q),
            k: Array<Vector<place::X, place::N>> = array(k),
            v: Array<Vector<place::X, place::N>> = array(v),
            gains: Sequence<Array<Vector<place::G, place::N>>> = gains.into_iter().map(array).collect(),
            cos: Array<Vector<f32, place::N>> = array(&cos),
            sin: Array<Vector<f32, place::N>> = array(&sin),
            rotated: Array<Vector<place::X, place::N>> = array(&rotated),
            keys: Array<Vector<place::X, place::N>> = array(keys),
            values: Array<Vector<place::X, place::N>> = array(values),
            q_strides: Strides = q_strides,
            k_strides: Strides = k_strides,
            v_strides: Strides = v_strides,
            keys_strides: Strides = keys_strides,
            values_strides: Strides = values_strides,
            sizes: Sizes = sizes,
            eps: f32 = heads.norms.as_ref().map_or(0.0, |(_, eps)| *eps) as f32;
            normed = heads.norms.is_some(), dtypes = types,
        );
    }
    rotated.meta.swap(1, 2);
    Some(rotated)
}

/// Lengths of a pass.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    heads: usize,
    kv_heads: usize,
    seq: usize,
    /// Vectors of half a head.
    half: usize,
    /// The first column to write.
    at: usize,
    /// Heads of all tokens: of queries, keys and values.
    tasks: usize,
    /// Numbers of a head.
    head_dim: f32,
}

/// One plane takes one head of one token.
#[cube(launch_unchecked)]
fn place<X: Float, G: Float, N: Size>(
    q: &Array<Vector<X, N>>,
    k: &Array<Vector<X, N>>,
    v: &Array<Vector<X, N>>,
    gains: &Sequence<Array<Vector<G, N>>>, // [head_dim] of queries and of keys, if they are normed
    cos: &Array<Vector<f32, N>>,           // [batch, seq, half]
    sin: &Array<Vector<f32, N>>,           // [batch, seq, half]
    rotated: &mut Array<Vector<X, N>>,     // [batch, seq, heads, head_dim]
    keys: &mut Array<Vector<X, N>>,
    values: &mut Array<Vector<X, N>>,
    q_strides: Strides,
    k_strides: Strides,
    v_strides: Strides,
    keys_strides: Strides,
    values_strides: Strides,
    sizes: Sizes,
    eps: f32,
    #[comptime] normed: bool,
    #[define(X, G)] _dtypes: [StorageType; 2],
) {
    let task = CUBE_POS_X as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    if task < sizes.tasks {
        let of_token = sizes.heads + 2 * sizes.kv_heads;
        let (token, head) = (task / of_token, task % of_token);
        let (batch, column) = (token / sizes.seq, token % sizes.seq);
        let table = token * sizes.half;
        if head < sizes.heads {
            let from = batch * q_strides.batch + head * q_strides.head + column * q_strides.column;
            let to = (token * sizes.heads + head) * 2 * sizes.half;
            turn::<X, G, N>(q, from, gains, 0usize, cos, sin, table, rotated, to, &sizes, eps, normed);
        } else if head < sizes.heads + sizes.kv_heads {
            let head = head - sizes.heads;
            let from = batch * k_strides.batch + head * k_strides.head + column * k_strides.column;
            let to = batch * keys_strides.batch + head * keys_strides.head + (sizes.at + column) * keys_strides.column;
            turn::<X, G, N>(k, from, gains, 1usize, cos, sin, table, keys, to, &sizes, eps, normed);
        } else {
            let head = head - sizes.heads - sizes.kv_heads;
            let from = batch * v_strides.batch + head * v_strides.head + column * v_strides.column;
            let strides = values_strides;
            let to = batch * strides.batch + head * strides.head + (sizes.at + column) * strides.column;
            let mut i = UNIT_POS_X as usize;
            while i < 2 * sizes.half {
                values[to + i] = v[from + i];
                i += PLANE as usize;
            }
        }
    }
}

/// Norms a head where that is asked for, and turns its pairs.
#[cube]
fn turn<X: Float, G: Float, N: Size>(
    x: &Array<Vector<X, N>>,
    from: usize,
    gains: &Sequence<Array<Vector<G, N>>>,
    #[comptime] which: usize,
    cos: &Array<Vector<f32, N>>,
    sin: &Array<Vector<f32, N>>,
    table: usize,
    y: &mut Array<Vector<X, N>>,
    to: usize,
    sizes: &Sizes,
    eps: f32,
    #[comptime] normed: bool,
) {
    let half = sizes.half;
    let mut scale = 1.0f32;
    if normed {
        let mut squares = 0.0f32;
        let mut i = UNIT_POS_X as usize;
        while i < 2 * half {
            let value = Vector::<f32, N>::cast_from(x[from + i]);
            let square = value * value;
            #[unroll]
            for j in 0..N::value() {
                squares += square[j];
            }
            i += PLANE as usize;
        }
        scale = 1.0f32 / f32::sqrt(plane_sum(squares) / sizes.head_dim + eps);
    }
    let mut i = UNIT_POS_X as usize;
    while i < half {
        let mut a = Vector::<f32, N>::cast_from(x[from + i]);
        let mut b = Vector::<f32, N>::cast_from(x[from + half + i]);
        if normed {
            let gain = gains.index(which);
            a = a * Vector::new(scale) * Vector::cast_from(gain[i]);
            b = b * Vector::new(scale) * Vector::cast_from(gain[half + i]);
        }
        let (cos, sin) = (cos[table + i], sin[table + i]);
        y[to + i] = Vector::cast_from(a * cos - b * sin);
        y[to + half + i] = Vector::cast_from(b * cos + a * sin);
        i += PLANE as usize;
    }
}
