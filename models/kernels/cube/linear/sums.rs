use cubecl::prelude::*;

use super::planes::{Blueprint, PLANES};

/// What a plane sums up.
#[derive(CubeType)]
pub struct Sums {
    /// Of the products of each row with each column.
    pub products: Array<f32>,
    /// Of each row's squares.
    pub squares: Array<f32>,
}

#[cube]
impl Sums {
    /// Noughts.
    pub fn new(#[comptime] blueprint: Blueprint) -> Sums {
        let (rows, columns) = comptime!((blueprint.rows, blueprint.columns()));
        let mut products = Array::<f32>::new(comptime!(rows * columns));
        let mut squares = Array::<f32>::new(rows);
        #[unroll]
        for i in 0..rows * columns {
            products[i] = 0.0f32;
        }
        #[unroll]
        for r in 0..rows {
            squares[r] = 0.0f32;
        }
        Sums { products, squares }
    }

    /// Puts the shares of a plane's units together, and of the planes that make the same outputs.
    pub fn join(&mut self, #[comptime] blueprint: Blueprint) {
        let (products, squares) = comptime!((blueprint.rows * blueprint.columns(), blueprint.rows));
        #[unroll]
        for i in 0..products {
            self.products[i] = plane_sum(self.products[i]);
        }
        if comptime!(blueprint.normed) {
            #[unroll]
            for r in 0..squares {
                self.squares[r] = plane_sum(self.squares[r]);
            }
        }
        if comptime!(blueprint.splits > 1) {
            let size = comptime!(products + squares);
            let mut shared = SharedMemory::<f32>::new(comptime!(PLANES * size));
            let plane = UNIT_POS_Y as usize;
            if UNIT_POS_X == 0 {
                #[unroll]
                for i in 0..products {
                    shared[plane * size + i] = self.products[i];
                }
                #[unroll]
                for r in 0..squares {
                    shared[plane * size + products + r] = self.squares[r];
                }
            }
            sync_cube();
            let first = plane / blueprint.splits * blueprint.splits;
            #[unroll]
            for i in 0..products {
                self.products[i] = total(&shared, first * size + i, size, blueprint.splits);
            }
            #[unroll]
            for r in 0..squares {
                self.squares[r] = total(&shared, first * size + products + r, size, blueprint.splits);
            }
        }
    }
}

/// The sum of `count` numbers from `first` on, `step` apart.
#[cube]
pub fn total(shared: &SharedMemory<f32>, first: usize, #[comptime] step: usize, #[comptime] count: usize) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..count {
        sum += shared[first + i * step];
    }
    sum
}
