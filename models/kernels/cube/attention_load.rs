use cubecl::prelude::*;

use super::mma::{COLUMNS, Pair, TILE, pair};
use crate::layers::PAD;

/// Where a cube's keys and values begin, and the steps between them, in vectors.
#[derive(CubeType, Clone, Copy)]
pub struct Place {
    pub keys: usize,
    pub key: usize,
    pub values: usize,
    pub value: usize,
    pub positions: usize,
    /// Keys that count.
    pub len: usize,
}

/// What a unit multiplies of a tile of keys, in whole words: the halves of one would be put into registers of their own,
/// for which the unit waits at once.
#[derive(CubeType)]
pub struct Coming<M: Size> {
    /// The position of key `unit % 16`.
    pub position: Array<i32>,
    /// Every fourth vector of keys `i` and `i + 8`.
    pub keys: Array<Vector<u32, M>>,
    /// Every eighth vector of values `2 · j`, `2 · j + 1` and those eight further, together.
    values: Array<Vector<u32, M>>,
}

#[cube]
impl<M: Size> Coming<M> {
    /// Room, not yet written.
    pub fn new(#[comptime] vectors: usize) -> Coming<M> {
        Coming::<M> {
            position: Array::new(1usize),
            keys: Array::new(comptime!(vectors / 2)),
            values: Array::new(comptime!(vectors / 2)),
        }
    }

    /// Begins to load the position of each key of the tile from `at` on, `PAD` beyond the last.
    pub fn load_positions(&mut self, positions: &Array<i32>, place: &Place, at: usize) {
        let key = at + UNIT_POS_X as usize % TILE;
        self.position[0] = select(key < place.len, positions[place.positions + min(key, place.len - 1)], PAD);
    }

    /// Begins to load keys.
    pub fn load_keys<X: Float, N: Size>(
        &mut self,
        k: &Array<Vector<X, N>>,
        place: &Place,
        at: usize,
        #[comptime] vectors: usize,
    ) {
        let n = comptime!(vectors / 4);
        #[unroll]
        for b in 0..2usize {
            let key = min(at + b * COLUMNS + UNIT_POS_X as usize / 4, place.len - 1);
            #[unroll]
            for i in 0..n {
                self.keys[b * n + i] = Vector::reinterpret(k[place.keys + key * place.key + 4 * i]);
            }
        }
    }

    /// Begins to load values.
    pub fn load_values<X: Float, N: Size>(
        &mut self,
        v: &Array<Vector<X, N>>,
        place: &Place,
        at: usize,
        #[comptime] vectors: usize,
    ) {
        #[unroll]
        for n in 0..4usize {
            let key = at + 2 * (UNIT_POS_X as usize % 4) + comptime!(n % 2 + n / 2 * COLUMNS);
            let value = place.values + min(key, place.len - 1) * place.value;
            #[unroll]
            for part in 0..comptime!(vectors / COLUMNS) {
                self.values[4 * part + n] = Vector::reinterpret(v[value + part * COLUMNS]);
            }
        }
    }

    /// The `n`th numbers of two neighbouring vectors of values.
    pub fn pair_of_values<X: Float>(&self, #[comptime] first: usize, #[comptime] n: usize) -> Pair<X> {
        let a = Pair::<X>::reinterpret(self.values[first][comptime!(n / 2)]);
        let b = Pair::<X>::reinterpret(self.values[comptime!(first + 1)][comptime!(n / 2)]);
        pair::<X, Const<2>>(a, comptime!(n % 2), b, comptime!(n % 2))
    }
}

/// `n` vectors of a row that are four apart, as words.
#[cube]
pub fn load<X: Float, N: Size, M: Size>(
    rows: &Array<Vector<X, N>>,
    at: usize,
    #[comptime] n: usize,
) -> Array<Vector<u32, M>> {
    let mut loaded = Array::<Vector<u32, M>>::new(n);
    #[unroll]
    for i in 0..n {
        loaded[i] = Vector::reinterpret(rows[at + 4 * i]);
    }
    loaded
}

/// The `n`th pair of some vectors' numbers.
#[cube]
pub fn pair_of<X: Float, M: Size>(vectors: &Array<Vector<u32, M>>, #[comptime] n: usize) -> Pair<X> {
    let words = M::value().comptime();
    let vector = vectors[comptime!(n / words)];
    Pair::reinterpret(vector[comptime!(n % words)])
}
