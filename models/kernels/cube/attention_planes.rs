use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::attention::{Input, LATEST, Sizes, capped, sees};
use super::launch::launch;
use super::tensor::{PLANE, Strides, array, strides};
use crate::layers::PAD;

/// How a cube works: queries that share the load of a key, keys that are weighed at once, planes that share the keys.
#[derive(Debug, Clone, Copy)]
struct Blueprint {
    queries: usize,
    keys: usize,
    planes: usize,
}

/// For a query alone.
const ONE: Blueprint = Blueprint { queries: 1, keys: 4, planes: 16 };

/// For several.
const MANY: Blueprint = Blueprint { queries: 4, keys: 2, planes: 8 };

/// Numbers of a vector: as few as let a plane hold a whole head, a vector a unit.
pub fn width(head_dim: usize) -> Option<usize> {
    [1, 2, 4, 8].into_iter().find(|width| head_dim.is_multiple_of(*width) && head_dim / width <= PLANE as usize)
}

/// Attends in any dtype, in f32; `None` where a head is not made of so many whole vectors.
pub fn launch<R: CubeRuntime>(input: &Input<R>, out: &CubeTensor<R>) -> Option<()> {
    let [batch, heads, queries, head_dim] = input.q.meta.shape().dims();
    let width = width(head_dim)?;
    let (q, k, v) = (strides(&input.q, width)?, strides(&input.k, width)?, strides(&input.v, width)?);
    let blueprint = if queries == 1 { ONE } else { MANY };
    let dtype = out.dtype.into();
    // SAFETY: queries and keys beyond the last are read as the last; neither are they weighed nor the result written.
    unsafe {
        launch!(
            planes::Planes beside out,
            CubeCount::Static(queries.div_ceil(blueprint.queries) as u32, heads as u32, batch as u32),
            CubeDim::new_2d(PLANE, blueprint.planes as u32);
            X = dtype; N = width;
            q: Array<Vector<planes::X, planes::N>> = array(&input.q),
            k: Array<Vector<planes::X, planes::N>> = array(&input.k),
            v: Array<Vector<planes::X, planes::N>> = array(&input.v),
            query_positions: Array<i32> = array(&input.query_positions),
            key_positions: Array<i32> = array(&input.key_positions),
            sinks: Array<f32> = input.sinks(),
            out: Array<Vector<planes::X, planes::N>> = array(out),
            q_strides: Strides = q,
            k_strides: Strides = k,
            v_strides: Strides = v,
            sizes: Sizes = input.sizes(),
            scale: f32 = input.scale as f32,
            softcap: f32 = input.softcap(),
            window: i32 = input.window();
            vectors = head_dim / width, queries_at_once = blueprint.queries, keys_at_once = blueprint.keys,
            planes = blueprint.planes, caps = input.softcap.is_some(), has_sinks = input.sinks.is_some(), dtype = dtype,
        );
    }
    Some(())
}

/// One cube attends from a few queries of one head: its planes go through blocks of as many keys as a plane has units,
/// each with a running softmax, and put their shares together at the end.
///
/// Online softmax: Milakov & Gimelshein 2018 (arXiv 1805.02867).
#[cube(launch_unchecked)]
fn planes<X: Float, N: Size>(
    q: &Array<Vector<X, N>>,
    k: &Array<Vector<X, N>>,
    v: &Array<Vector<X, N>>,
    query_positions: &Array<i32>,  // [batch, queries]
    key_positions: &Array<i32>,    // [batch, dropped + keys]
    sinks: &Array<f32>,            // [heads]
    out: &mut Array<Vector<X, N>>, // [batch, queries, heads, head_dim]
    q_strides: Strides,
    k_strides: Strides,
    v_strides: Strides,
    sizes: Sizes,
    scale: f32,
    softcap: f32,
    window: i32,
    #[comptime] vectors: usize, // of a head
    #[comptime] queries_at_once: usize,
    #[comptime] keys_at_once: usize,
    #[comptime] planes: usize,
    #[comptime] caps: bool,
    #[comptime] has_sinks: bool,
    #[define(X)] _dtype: StorageType,
) {
    let lowest = f32::min_value();
    let (lane, plane) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let (head, batch) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let first = CUBE_POS_X as usize * queries_at_once;
    let kv_head = head / sizes.group;
    // Units beyond the head's width repeat its first vector, times nothing.
    let busy = lane < vectors;
    let part = select(busy, lane, 0);
    let scale = select(busy, scale, 0.0f32);

    let mut queries = Array::<Vector<f32, N>>::new(queries_at_once);
    let mut positions = Array::<i32>::new(queries_at_once);
    let mut mixed = Array::<Vector<f32, N>>::new(queries_at_once);
    let mut tops = Array::<f32>::new(queries_at_once);
    let mut sums = Array::<f32>::new(queries_at_once);
    let mut earliest = comptime!(LATEST).runtime();
    let mut last = comptime!(PAD).runtime();
    #[unroll]
    for r in 0..queries_at_once {
        let row = min(first + r, sizes.queries - 1);
        let at = batch * q_strides.batch + head * q_strides.head + row * q_strides.column + part;
        queries[r] = Vector::<f32, N>::cast_from(q[at]) * Vector::new(scale);
        let position = select(first + r < sizes.queries, query_positions[batch * sizes.queries + row], PAD);
        positions[r] = position;
        last = max(last, position);
        earliest = min(earliest, select(position == PAD, earliest, position));
        mixed[r] = Vector::new(0.0f32);
        tops[r] = lowest;
        sums[r] = 0.0f32;
        if has_sinks {
            // A score that one plane has seen already.
            tops[r] = select(plane == 0, sinks[head], lowest);
            sums[r] = select(plane == 0, 1.0f32, 0.0f32);
        }
    }

    let first_key = batch * k_strides.batch + kv_head * k_strides.head + sizes.start * k_strides.column + part;
    let first_value = batch * v_strides.batch + kv_head * v_strides.head + sizes.start * v_strides.column + part;
    let first_position = batch * (sizes.dropped + sizes.keys) + sizes.dropped;
    let mut block = plane * PLANE as usize;
    while block < sizes.keys {
        // Each unit looks at the position of one key; a block that no query sees is skipped.
        let key = min(block + lane, sizes.keys - 1);
        let position = select(block + lane < sizes.keys, key_positions[first_position + key], PAD);
        let near = position != PAD && position <= last && earliest - position < window;
        if plane_any(near) {
            let end = min(block + PLANE as usize, sizes.keys);
            let mut next = block;
            while next < end {
                let mut keys = Array::<Vector<f32, N>>::new(keys_at_once);
                let mut values = Array::<Vector<f32, N>>::new(keys_at_once);
                let mut key_position = Array::<i32>::new(keys_at_once);
                #[unroll]
                for j in 0..keys_at_once {
                    let key = min(next + j, sizes.keys - 1);
                    keys[j] = Vector::cast_from(k[first_key + key * k_strides.column]);
                    values[j] = Vector::cast_from(v[first_value + key * v_strides.column]);
                    key_position[j] = plane_shuffle(position, (next + j - block) as u32);
                }
                #[unroll]
                for r in 0..queries_at_once {
                    let mut scores = Array::<f32>::new(keys_at_once);
                    let mut top = tops[r];
                    #[unroll]
                    for j in 0..keys_at_once {
                        let products = queries[r] * keys[j];
                        let mut score = 0.0f32;
                        #[unroll]
                        for i in 0..N::value() {
                            score += products[i];
                        }
                        let seen = sees(positions[r], key_position[j], window);
                        scores[j] = select(seen, capped(plane_sum(score), softcap, caps), lowest);
                        top = max(top, scores[j]);
                    }
                    let rescale = f32::exp(tops[r] - top);
                    let mut sum = sums[r] * rescale;
                    let mut mixture = mixed[r] * Vector::new(rescale);
                    #[unroll]
                    for j in 0..keys_at_once {
                        let weight = select(scores[j] <= lowest, 0.0f32, f32::exp(scores[j] - top));
                        sum += weight;
                        mixture += values[j] * Vector::new(weight);
                    }
                    tops[r] = top;
                    sums[r] = sum;
                    mixed[r] = mixture;
                }
                next += keys_at_once;
            }
        }
        block += planes * PLANE as usize;
    }

    let mut shared_tops = SharedMemory::<f32>::new(planes);
    let mut shared_sums = SharedMemory::<f32>::new(planes);
    let mut shared_mixed = SharedMemory::<Vector<f32, N>>::new(planes * vectors);
    #[unroll]
    for r in 0..queries_at_once {
        if lane == 0 {
            shared_tops[plane] = tops[r];
            shared_sums[plane] = sums[r];
        }
        if busy {
            shared_mixed[plane * vectors + lane] = mixed[r];
        }
        sync_cube();
        if plane == 0 && busy && first + r < sizes.queries {
            let mut top = lowest;
            #[unroll]
            for p in 0..planes {
                top = max(top, shared_tops[p]);
            }
            let mut sum = 0.0f32;
            let mut mixture = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for p in 0..planes {
                let weight = f32::exp(shared_tops[p] - top);
                sum += shared_sums[p] * weight;
                mixture += shared_mixed[p * vectors + lane] * Vector::new(weight);
            }
            // A query of padding has seen nothing: 0 / tiny.
            let share = mixture / Vector::new(max(sum, f32::MIN_POSITIVE));
            let heads = CUBE_COUNT_Y as usize;
            let row = (batch * sizes.queries + first + r) * heads + head;
            out[row * vectors + lane] = Vector::cast_from(share);
        }
        sync_cube();
    }
}
