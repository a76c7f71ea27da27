use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::attention::{Input, LATEST, Sizes, capped, sees};
use super::attention_load::{Coming, Place, load, pair_of};
use super::attention_split::Splits;
use super::launch::launch;
use super::mma::{COLUMNS, Pair, TILE, has_mma, multiply, nought};
use super::running::Running;
use super::tensor::{PLANE, Strides, array, strides};
use crate::layers::PAD;

/// Planes of a cube, which share the keys.
pub const PLANES: usize = 8;

/// Keys that a cube goes through at a time, a tile for each plane.
const KEYS: usize = PLANES * TILE;

/// Cubes that keep a device busy.
const BUSY: usize = 512;

/// As many, with loads that are on their way ahead.
const BUSY_AHEAD: usize = 160;

/// Numbers of a vector: the most, up to 16 bytes, of which a head is made in whole rows of eight.
fn width(head_dim: usize) -> Option<usize> {
    [8, 4, 2].into_iter().find(|width| head_dim.is_multiple_of(COLUMNS * width) && head_dim <= 256)
}

/// Attends on tensor cores, with sums in f32; `None` where dtype or width do not suit.
pub fn launch<R: CubeRuntime>(input: &Input<R>, out: &CubeTensor<R>) -> Option<()> {
    let ([batch, heads, queries, head_dim], kv_heads) = (input.q.meta.shape().dims(), input.k.meta.shape()[1]);
    let width = width(head_dim).filter(|_| has_mma(&out.client, out.dtype))?;
    let (q, k, v) = (strides(&input.q, width)?, strides(&input.k, width)?, strides(&input.v, width)?);
    let rows = heads / kv_heads * queries;
    let tiles = rows.div_ceil(TILE);
    let (cubes, ahead) = (tiles * kv_heads * batch, tiles == 1);
    let splits = Splits::new(input.keys, KEYS, if ahead { BUSY_AHEAD } else { BUSY } / cubes);
    let (shares, marks) = splits.memory(out);
    let dtype = out.dtype.into();
    // SAFETY: queries and keys beyond the last are read as the last; neither are they weighed nor the result written.
    unsafe {
        launch!(
            tiles::Tiles beside out,
            CubeCount::Static((tiles * splits.count) as u32, kv_heads as u32, batch as u32),
            CubeDim::new_2d(PLANE, PLANES as u32);
            X = dtype; N = width, M = width / 2;
            q: Array<Vector<tiles::X, tiles::N>> = array(&input.q),
            k: Array<Vector<tiles::X, tiles::N>> = array(&input.k),
            v: Array<Vector<tiles::X, tiles::N>> = array(&input.v),
            query_positions: Array<i32> = array(&input.query_positions),
            key_positions: Array<i32> = array(&input.key_positions),
            sinks: Array<f32> = input.sinks(),
            out: Array<Vector<tiles::X, tiles::N>> = array(out),
            shares: Array<Vector<f32, tiles::N>> = array(&shares),
            marks: Array<f32> = array(&marks),
            q_strides: Strides = q,
            k_strides: Strides = k,
            v_strides: Strides = v,
            sizes: Sizes = input.sizes(),
            scale: f32 = input.scale as f32,
            softcap: f32 = input.softcap(),
            window: i32 = input.window(),
            tiles: usize = tiles,
            split_len: usize = splits.len;
            head_dim = head_dim, is_split = splits.count > 1, ahead = ahead, caps = input.softcap.is_some(),
            has_sinks = input.sinks.is_some(), dtype = dtype,
        );
    }
    splits.join(&shares, &marks, out, width);
    Some(())
}

/// One cube attends from a tile of queries, of all heads that share a key head: its planes go through tiles of keys,
/// each with a running softmax, and put their shares together at the end.
///
/// Queries, and then the weights of keys, are the left operand, see [`mma`](super::mma). The weights are taken as the
/// sums of the scores lie already. Of the values unit `4 · i + j` loads the `i`th vectors of four keys, and the columns
/// of one product are the numbers of one place in these vectors.
///
/// Where a tile has all queries, the next keys and values are on their way `ahead`, since nothing else hides their
/// latency; else so many cubes do that tiles which no query sees are skipped instead.
#[cube(launch_unchecked)]
fn tiles<X: Float, N: Size, M: Size>(
    q: &Array<Vector<X, N>>,
    k: &Array<Vector<X, N>>,
    v: &Array<Vector<X, N>>,
    query_positions: &Array<i32>,       // [batch, queries]
    key_positions: &Array<i32>,         // [batch, dropped + keys]
    sinks: &Array<f32>,                 // [heads]
    out: &mut Array<Vector<X, N>>,      // [batch, queries, heads, head_dim]
    shares: &mut Array<Vector<f32, N>>, // [splits, batch, queries, heads, head_dim]
    marks: &mut Array<f32>,             // [splits, batch, queries, heads, 2]
    q_strides: Strides,
    k_strides: Strides,
    v_strides: Strides,
    sizes: Sizes,
    scale: f32,
    softcap: f32,
    window: i32,
    tiles: usize,
    split_len: usize,
    #[comptime] head_dim: usize,
    #[comptime] is_split: bool,
    #[comptime] ahead: bool,
    #[comptime] caps: bool,
    #[comptime] has_sinks: bool,
    #[define(X)] _dtype: StorageType,
) {
    let width = N::value().comptime();
    let vectors = comptime!(head_dim / width); // of a head
    let (plane, lane) = (UNIT_POS_Y as usize, UNIT_POS_X as usize);
    let (i, j) = (lane / 4, lane % 4);
    let (tile, split) = (CUBE_POS_X as usize % tiles, CUBE_POS_X as usize / tiles);
    let (first, kv_head, batch) = (tile * TILE, CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let rows = sizes.queries * sizes.group;

    let place = Place {
        keys: batch * k_strides.batch + kv_head * k_strides.head + sizes.start * k_strides.column + j,
        key: k_strides.column,
        values: batch * v_strides.batch + kv_head * v_strides.head + sizes.start * v_strides.column + i,
        value: v_strides.column,
        positions: batch * (sizes.dropped + sizes.keys) + sizes.dropped,
        len: sizes.keys,
    };
    let mut at = split * split_len + plane * TILE;
    let end = min(sizes.keys, (split + 1) * split_len);
    let mut coming = Coming::<M>::new(vectors);
    if ahead {
        coming.load_positions(key_positions, &place, at);
        coming.load_keys::<X, N>(k, &place, at, vectors);
        coming.load_values::<X, N>(v, &place, at, vectors);
    }

    // Each unit knows rows i and i + 8 of the tile.
    let mut position = Array::<i32>::new(2usize);
    let mut running = Running::new(head_dim);
    let mut queries = Sequence::<Array<Pair<X>>>::new();
    #[unroll]
    for _ in 0..comptime!(head_dim / TILE) {
        queries.push(Array::<Pair<X>>::new(4usize));
    }
    #[unroll]
    for r in 0..2usize {
        let row = first + i + 8 * r;
        let (query, head) = (min(row, rows - 1) / sizes.group, kv_head * sizes.group + row % sizes.group);
        position[r] = select(row < rows, query_positions[batch * sizes.queries + query], PAD);
        if has_sinks && plane == 0 && split == 0 {
            running.see(r, sinks[head]);
        }
        let at = batch * q_strides.batch + head * q_strides.head + query * q_strides.column + j;
        let loaded = load::<X, N, M>(q, at, comptime!(vectors / 4));
        #[unroll]
        for step in 0..comptime!(head_dim / TILE) {
            let registers = queries.index_mut(step);
            registers[r] = pair_of::<X, M>(&loaded, comptime!(2 * step));
            registers[2 + r] = pair_of::<X, M>(&loaded, comptime!(2 * step + 1));
        }
    }
    let last = plane_max(max(position[0], position[1]));
    let upper = select(position[0] == PAD, LATEST, position[0]);
    let lower = select(position[1] == PAD, LATEST, position[1]);
    let earliest = plane_min(min(upper, lower));

    while at < end {
        if comptime!(!ahead) {
            coming.load_positions(key_positions, &place, at);
        }
        let key_position = coming.position[0];
        let mut near = true;
        if comptime!(!ahead) {
            let seen = key_position != PAD && key_position <= last && earliest - key_position < window;
            near = plane_any(seen);
        }
        if near {
            if comptime!(!ahead) {
                coming.load_keys::<X, N>(k, &place, at, vectors);
            }
            let mut scores = Sequence::<Array<Pair<f32>>>::new();
            #[unroll]
            for b in 0..comptime!(TILE / COLUMNS) {
                let mut products = nought();
                #[unroll]
                for step in 0..comptime!(head_dim / TILE) {
                    let mut right = Array::<Pair<X>>::new(2usize);
                    right[0] = pair_of::<X, M>(&coming.keys, comptime!(b * vectors / 4 * width / 2 + 2 * step));
                    right[1] = pair_of::<X, M>(&coming.keys, comptime!(b * vectors / 4 * width / 2 + 2 * step + 1));
                    multiply::<X>(queries.index(step), &right, &mut products);
                }
                mask(&mut products, &position, key_position, b * COLUMNS + 2 * j, scale, softcap, window, caps);
                scores.push(products);
            }
            if comptime!(!ahead) {
                coming.load_values::<X, N>(v, &place, at, vectors);
            } else if at + KEYS < end {
                coming.load_positions(key_positions, &place, at + KEYS);
                coming.load_keys::<X, N>(k, &place, at + KEYS, vectors);
            }
            running.weigh(&mut scores);
            let (upper, lower) = (scores.index(0usize), scores.index(1usize));
            let mut weights = Array::<Pair<X>>::new(4usize);
            weights[0] = Pair::cast_from(upper[0]);
            weights[1] = Pair::cast_from(upper[1]);
            weights[2] = Pair::cast_from(lower[0]);
            weights[3] = Pair::cast_from(lower[1]);
            #[unroll]
            for part in 0..comptime!(vectors / COLUMNS) {
                #[unroll]
                for n in 0..width {
                    let mut right = Array::<Pair<X>>::new(2usize);
                    right[0] = coming.pair_of_values::<X>(4 * part, n);
                    right[1] = coming.pair_of_values::<X>(4 * part + 2, n);
                    multiply::<X>(&weights, &right, running.mixed.index_mut(part * width + n));
                }
            }
            if ahead && at + KEYS < end {
                coming.load_values::<X, N>(v, &place, at + KEYS, vectors);
            }
        }
        at += KEYS;
    }
    running.combine::<X, N>(out, shares, marks, first, rows, split, &sizes, vectors, is_split);
}

/// Scales the products that are scores, and caps them where that is asked for; those of keys that are not seen become
/// the lowest number.
///
/// The unit `first` knows the position of the first key.
#[cube]
fn mask(
    products: &mut Array<Pair<f32>>,
    position: &Array<i32>,
    key_position: i32,
    first: usize,
    scale: f32,
    softcap: f32,
    window: i32,
    #[comptime] caps: bool,
) {
    #[unroll]
    for c in 0..2usize {
        let key = plane_shuffle(key_position, (first + c) as u32);
        #[unroll]
        for r in 0..2usize {
            let mut product = products[r];
            let score = capped(product[c] * scale, softcap, caps);
            product[c] = select(sees(position[r], key, window), score, f32::min_value());
            products[r] = product;
        }
    }
}
