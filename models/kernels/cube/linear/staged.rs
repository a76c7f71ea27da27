use cubecl::prelude::*;

use super::input::Input;
use super::planes::{Blueprint, PLANES};
use crate::kernels::cube::tensor::PLANE;
use crate::weight::GROUP;

/// A row of input in a cube's shared memory, times the norm's weight where there is one.
///
/// Units that take neighbouring groups read neighbouring vectors, which costs one round of the memory's banks in place of
/// four, and the norm's part is done once for all planes.
#[derive(CubeType)]
pub struct Staged<X: Float, N: Size> {
    /// `[vectors of a group, groups]`.
    numbers: SharedMemory<Vector<X, N>>,
    /// `[halves of a group, groups]`: their sums.
    sums: SharedMemory<f32>,
    /// The planes' sums of squares.
    squares: SharedMemory<f32>,
    groups: usize,
}

#[cube]
impl<X: Float, N: Size> Staged<X, N> {
    /// Room for a row, not yet written.
    pub fn new(groups: usize, #[comptime] blueprint: Blueprint) -> Staged<X, N> {
        let width = N::value().comptime();
        Staged::<X, N> {
            numbers: SharedMemory::new(comptime!(blueprint.staged / width)),
            sums: SharedMemory::new(comptime!(2 * blueprint.staged / GROUP)),
            squares: SharedMemory::new(comptime!(PLANES as usize)),
            groups,
        }
    }

    /// Takes the row in; to be called by all units of the cube.
    pub fn fill<G: Float>(&mut self, input: &Input<X, G, N>, #[comptime] normed: bool) {
        let width = N::value().comptime();
        let of_group = comptime!(GROUP / width);
        let mut squares = 0.0f32;
        let mut first = 0usize.runtime();
        while first < input.vectors {
            let (i, at) = (first + UNIT_POS as usize, min(first + UNIT_POS as usize, input.vectors - 1));
            let mut value = Vector::<f32, N>::cast_from(input.x[at]);
            if normed {
                let square = value * value;
                #[unroll]
                for j in 0..width {
                    squares += select(i < input.vectors, square[j], 0.0f32);
                }
                value *= Vector::cast_from(input.gain.as_ref().unwrap()[at]);
            }
            let rounded = Vector::<X, N>::cast_from(value);
            let numbers = Vector::<f32, N>::cast_from(rounded);
            let mut sum = 0.0f32;
            #[unroll]
            for j in 0..width {
                sum += numbers[j];
            }
            // Two neighbours make half a group.
            sum += plane_shuffle_xor(sum, 1u32);
            if i < input.vectors {
                let (group, part) = (i / of_group, i % of_group);
                self.numbers[part * self.groups + group] = rounded;
                if part % 2 == 0 {
                    self.sums[part / 2 * self.groups + group] = sum;
                }
            }
            first += comptime!(PLANES as usize * PLANE as usize);
        }
        if normed {
            squares = plane_sum(squares);
            if UNIT_POS_X == 0 {
                self.squares[UNIT_POS_Y as usize] = squares;
            }
        }
        sync_cube();
    }

    /// The inputs that a group is multiplied by, and behind them the sums of both halves.
    pub fn group(&self, group: usize) -> Array<f32> {
        let width = N::value().comptime();
        let mut values = Array::<f32>::new(comptime!(GROUP + 2));
        #[unroll]
        for v in 0..comptime!(GROUP / width) {
            let vector = Vector::<f32, N>::cast_from(self.numbers[v * self.groups + group]);
            #[unroll]
            for j in 0..width {
                values[v * width + j] = vector[j];
            }
        }
        values[GROUP] = self.sums[group];
        values[comptime!(GROUP + 1)] = self.sums[self.groups + group];
        values
    }

    /// The row's sum of squares, in one unit of each plane.
    pub fn squares(&self) -> f32 {
        let mut sum = 0.0f32;
        if UNIT_POS_X == 0 {
            #[unroll]
            for plane in 0..comptime!(PLANES as usize) {
                sum += self.squares[plane];
            }
        }
        sum
    }
}
