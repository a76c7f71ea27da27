use cubecl::prelude::*;
use half::f16;

use super::input::Input;
use super::row::Blueprint;
use super::row_codes::unit_and_bases;
use crate::kernels::cube::mma::COLUMNS;
use crate::kernels::cube::tensor::PLANE;
use crate::weight::GROUP;

/// Groups that are multiplied together, one for each column of the right operand.
pub const EIGHT: usize = COLUMNS;

/// Vectors that a unit takes in together, at most, so that it waits for memory once.
const AT_ONCE: usize = 8;

/// A row of input in a cube's shared memory, times the norm's weight where there is one; in f16, each group multiplied by
/// a power of two that brings its largest number near the largest f16.
#[derive(CubeType)]
pub struct Staged<M: Size> {
    /// `[groups, 4]` vectors of four pairs, and four of noughts behind the last: of every four numbers the even ones make
    /// a pair, and the odd ones, as they lie in a word of codes.
    pairs: SharedMemory<Vector<u32, M>>,
    /// `[groups]`, see [`Group`]; of four numbers the last means nothing.
    groups: SharedMemory<Vector<f32, Const<4>>>,
    /// The staging planes' sums of squares.
    squares: SharedMemory<f32>,
}

/// What belongs to a group of a staged row.
#[derive(CubeType)]
pub struct Group {
    /// What products hold too much, whatever the codes: see [`unit_and_bases`].
    pub base: f32,
    /// The sum of its numbers, in units of codes.
    pub sum: f32,
    /// What undoes the group's power of two.
    pub scale: f32,
}

#[cube]
impl<M: Size> Staged<M> {
    /// Room for a row, not yet written.
    pub fn new(#[comptime] blueprint: Blueprint) -> Staged<M> {
        Staged::<M> {
            pairs: SharedMemory::new(comptime!(4 * (blueprint.room() + 1))),
            groups: SharedMemory::new(blueprint.room()),
            squares: SharedMemory::new(blueprint.stagers()),
        }
    }

    /// Takes the row in, with noughts up to the next eight groups; to be called by all units of the planes that stage,
    /// before the cube waits.
    pub fn fill<X: Float, G: Float, N: Size>(&mut self, input: &Input<X, G, N>, #[comptime] blueprint: Blueprint) {
        let (vectors, units) = comptime!((4 * blueprint.room(), blueprint.stagers() * PLANE as usize));
        let rounds = comptime!(vectors.div_ceil(units).min(AT_ONCE));
        let mut squares = Array::<f32>::new(1usize);
        squares[0] = 0.0f32;
        let mut first = UNIT_POS as usize;
        while first < vectors {
            let mut values = Array::<Vector<f32, N>>::new(rounds);
            #[unroll]
            for r in 0..rounds {
                let i = first + comptime!(r * units);
                let mut square = Array::<f32>::new(1usize);
                square[0] = 0.0f32;
                let value =
                    input.normed(0usize.runtime(), min(i, input.vectors - 1), &mut square, 0usize, blueprint.normed);
                let inside = i < input.vectors;
                squares[0] += select(inside, square[0], 0.0f32);
                values[r] = select(inside, value, Vector::new(0.0f32));
            }
            #[unroll]
            for r in 0..rounds {
                self.put(first + comptime!(r * units), values[r], blueprint);
            }
            first += comptime!(rounds * units);
        }
        if UNIT_POS < 4 {
            self.pairs[vectors + UNIT_POS as usize] = Vector::new(0u32);
        }
        if comptime!(blueprint.normed) {
            let square = plane_sum(squares[0]);
            if UNIT_POS_X == 0 {
                self.squares[UNIT_POS_Y as usize] = square;
            }
        }
    }

    /// Stages the `i`th vector, if there is room for it; four neighbours, which make a group, do so together.
    fn put<N: Size>(&mut self, i: usize, value: Vector<f32, N>, #[comptime] blueprint: Blueprint) {
        let width = N::value().comptime();
        let mut largest = 0.0f32;
        #[unroll]
        for n in 0..width {
            largest = max(largest, f32::abs(value[n]));
        }
        largest = max(largest, plane_shuffle_xor(largest, 1u32));
        largest = max(largest, plane_shuffle_xor(largest, 2u32));
        // Times 2¹⁴ over the largest's power of two, whose exponent is put down as 14 and twice 127 less its own; not below
        // 20, so that both this and its inverse are floats, also where all are nought.
        let exponent = max(u32::reinterpret(largest) >> 23u32, 20u32);
        let up = f32::reinterpret((268u32 - exponent) << 23u32);
        let rounded = Vector::<f16, N>::cast_from(value * Vector::new(up));
        let numbers = Vector::<f32, N>::cast_from(rounded);
        let mut mixed = Vector::<f16, N>::empty();
        let mut sum = 0.0f32;
        #[unroll]
        for n in 0..width {
            sum += numbers[n];
            mixed[n] = rounded[comptime!(n / 4 * 4 + [0, 2, 1, 3][n % 4])];
        }
        let inside = i < comptime!(4 * blueprint.room());
        if inside {
            self.pairs[i] = Vector::reinterpret(mixed);
        }
        let (group, part) = (i / 4, i % 4);
        let half = sum + plane_shuffle_xor(sum, 1u32);
        let other = plane_shuffle_xor(half, 2u32);
        if inside && part == 0 {
            let (unit, bases) = comptime!(unit_and_bases(blueprint.format));
            let [first, second] = comptime!(bases);
            let mut of_group = Vector::<f32, Const<4>>::new(0.0f32);
            of_group[0] = half * first + other * second;
            of_group[1] = (half + other) * unit;
            of_group[2] = f32::reinterpret((exponent - 14u32) << 23u32);
            self.groups[group] = of_group;
        }
    }

    /// The pairs of a group, or noughts.
    pub fn pairs(&self, group: usize, wanted: bool, #[comptime] blueprint: Blueprint) -> Array<u32> {
        let first = 4 * select(wanted, group, blueprint.room().runtime());
        let mut words = Array::<u32>::new(comptime!(GROUP / 2));
        #[unroll]
        for v in 0..4usize {
            let vector = self.pairs[first + v];
            #[unroll]
            for n in 0..4usize {
                words[4 * v + n] = vector[n];
            }
        }
        words
    }

    /// What belongs to a group.
    pub fn group(&self, group: usize) -> Group {
        let of_group = self.groups[group];
        Group { base: of_group[0], sum: of_group[1], scale: of_group[2] }
    }

    /// What products with the row are to be multiplied by: its norm's scale, or 1.
    pub fn scale<X: Float, G: Float, N: Size>(&self, input: &Input<X, G, N>, #[comptime] blueprint: Blueprint) -> f32 {
        let mut scale = 1.0f32;
        if comptime!(blueprint.normed) {
            let mut sum = 0.0f32;
            #[unroll]
            for plane in 0..blueprint.stagers() {
                sum += self.squares[plane];
            }
            scale = 1.0f32 / f32::sqrt(sum / input.numbers + input.eps);
        }
        scale
    }
}
