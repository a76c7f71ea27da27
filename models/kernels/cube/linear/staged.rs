use cubecl::prelude::*;

use super::input::Input;
use super::row::Blueprint;
use crate::kernels::cube::mma::COLUMNS;
use crate::kernels::cube::tensor::PLANE;
use crate::weight::GROUP;

/// Groups that are multiplied together, one for each column of the right operand.
pub const EIGHT: usize = COLUMNS;

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

    /// Takes the row in, with noughts up to the next eight groups; to be called by all units of the cube.
    pub fn fill<X: Float, G: Float, N: Size>(&mut self, input: &Input<X, G, N>, #[comptime] blueprint: Blueprint) {
        let width = N::value().comptime();
        let mut squares = Array::<f32>::new(1usize);
        squares[0] = 0.0f32;
        let mut i = UNIT_POS as usize;
        // As many vectors as whole planes have units, so that all of a plane shuffle together.
        while i < comptime!(4 * blueprint.room) {
            let inside = i < input.vectors;
            let mut rounded = Vector::<X, N>::new(X::from_int(0));
            if inside {
                rounded = Vector::cast_from(input.normed(0usize.runtime(), i, &mut squares, 0usize, blueprint.normed));
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
            let (group, part) = (i / 4, i % 4);
            if part == 0 {
                self.sums[group] = sum;
            }
            i += comptime!(blueprint.planes() * PLANE as usize);
        }
        if UNIT_POS < 4 {
            self.pairs[comptime!(4 * blueprint.room) + UNIT_POS as usize] = Vector::new(0u32);
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
