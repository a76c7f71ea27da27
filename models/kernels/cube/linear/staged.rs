use cubecl::prelude::*;

use super::input::{Input, weighed};
use super::row::{Blueprint, VECTORS};
use crate::kernels::cube::mma::COLUMNS;
use crate::kernels::cube::tensor::PLANE;
use crate::weight::GROUP;

/// Groups that are multiplied together, one for each column of the right operand.
pub const EIGHT: usize = COLUMNS;

/// Vectors that a unit holds while they are on their way, at most; those of a norm's weight count, too.
const AHEAD: usize = 8;

/// What a unit stages of a row of input, or the first of it, on its way.
#[derive(CubeType)]
pub struct Arriving<X: Float, G: Float, N: Size> {
    x: Array<Vector<X, N>>,
    gain: Array<Vector<G, N>>,
}

#[cube]
impl<X: Float, G: Float, N: Size> Arriving<X, G, N> {
    /// Begins to load.
    pub fn load(input: &Input<X, G, N>, #[comptime] blueprint: Blueprint) -> Arriving<X, G, N> {
        let rounds = comptime!(ahead(blueprint));
        let mut x = Array::new(rounds);
        let mut gain = Array::new(rounds);
        #[unroll]
        for round in 0..rounds {
            let i = min(place(round, blueprint), input.vectors - 1);
            x[round] = input.x[i];
            if comptime!(blueprint.normed) {
                gain[round] = input.gain.as_ref().unwrap()[i];
            }
        }
        Arriving::<X, G, N> { x, gain }
    }

    /// As [`Input::normed`].
    fn normed(&self, #[comptime] round: usize, squares: &mut Array<f32>, #[comptime] norm: bool) -> Vector<f32, N> {
        let mut value = Vector::<f32, N>::cast_from(self.x[round]);
        if norm {
            value = weighed::<G, N>(value, self.gain[round], squares, 0usize);
        }
        value
    }
}

/// Rounds of staging whose vectors are loaded ahead.
fn ahead(blueprint: Blueprint) -> usize {
    blueprint.rounds().min(if blueprint.normed { AHEAD / 2 } else { AHEAD })
}

/// The vector of the row that the unit stages in a round.
#[cube]
fn place(#[comptime] round: usize, #[comptime] blueprint: Blueprint) -> usize {
    UNIT_POS as usize + comptime!(round * blueprint.planes() * PLANE as usize)
}

/// A row of input in a cube's shared memory, times the norm's weight where there is one.
#[derive(CubeType)]
pub struct Staged<M: Size> {
    /// `[groups, 4]` vectors of four pairs, and four of noughts behind the last: of every four numbers the even ones make
    /// a pair, and the odd ones, as they lie in a word of codes.
    pairs: SharedMemory<Vector<u32, M>>,
    /// `[groups]`: their sums.
    sums: SharedMemory<f32>,
    /// The planes' sums of squares.
    squares: SharedMemory<f32>,
}

#[cube]
impl<M: Size> Staged<M> {
    /// Room for a row, not yet written.
    pub fn new(#[comptime] blueprint: Blueprint) -> Staged<M> {
        Staged::<M> {
            pairs: SharedMemory::new(comptime!(4 * (blueprint.room + 1))),
            sums: SharedMemory::new(blueprint.room),
            squares: SharedMemory::new(comptime!(blueprint.planes())),
        }
    }

    /// Takes the row in, with noughts behind it; to be called by all units of the cube.
    pub fn fill<X: Float, G: Float, N: Size>(
        &mut self,
        input: &Input<X, G, N>,
        arriving: &Arriving<X, G, N>,
        #[comptime] blueprint: Blueprint,
    ) {
        let width = N::value().comptime();
        let mut squares = Array::<f32>::new(1usize);
        squares[0] = 0.0f32;
        #[unroll]
        for round in 0..blueprint.rounds() {
            let i = place(round, blueprint);
            let mut rounded = Vector::<X, N>::new(X::from_int(0));
            if i < input.vectors {
                let number = match comptime!(round < ahead(blueprint)) {
                    true => arriving.normed(round, &mut squares, blueprint.normed),
                    false => input.normed(0usize.runtime(), i, &mut squares, 0usize, blueprint.normed),
                };
                rounded = Vector::cast_from(number);
            }
            let numbers = Vector::<f32, N>::cast_from(rounded);
            let mut mixed = Vector::<X, N>::empty();
            let mut sum = 0.0f32;
            #[unroll]
            for n in 0..width {
                sum += numbers[n];
                mixed[n] = rounded[comptime!(n / 4 * 4 + [0, 2, 1, 3][n % 4])];
            }
            self.pairs[i] = Vector::reinterpret(mixed);
            // Four neighbours make a group.
            sum += plane_shuffle_xor(sum, 1u32);
            sum += plane_shuffle_xor(sum, 2u32);
            let (group, part) = (i / VECTORS, i % VECTORS);
            if part == 0 {
                self.sums[group] = sum;
            }
        }
        if UNIT_POS < 4 {
            self.pairs[comptime!(VECTORS * blueprint.room) + UNIT_POS as usize] = Vector::new(0u32);
        }
        if comptime!(blueprint.normed) {
            let square = plane_sum(squares[0]);
            if UNIT_POS_X == 0 {
                self.squares[UNIT_POS_Y as usize] = square;
            }
        }
        sync_cube();
    }

    /// The pairs of a group, or noughts.
    pub fn pairs(&self, group: usize, wanted: bool, #[comptime] blueprint: Blueprint) -> Array<u32> {
        let first = 4 * select(wanted, group, blueprint.room.runtime());
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

    /// The sum of a group.
    pub fn sum(&self, group: usize) -> f32 {
        self.sums[group]
    }

    /// What products with the row are to be multiplied by: its norm's scale, or 1.
    pub fn scale<X: Float, G: Float, N: Size>(&self, input: &Input<X, G, N>, #[comptime] blueprint: Blueprint) -> f32 {
        let mut scale = 1.0f32;
        if comptime!(blueprint.normed) {
            let mut sum = 0.0f32;
            #[unroll]
            for plane in 0..blueprint.planes() {
                sum += self.squares[plane];
            }
            scale = 1.0f32 / f32::sqrt(sum / input.numbers + input.eps);
        }
        scale
    }
}
