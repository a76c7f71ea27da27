//! Linear layers: weights multiplied as they are read, dense or packed.

mod dense;
mod input;
mod packed;
mod planes;
mod product;
mod tiles;
mod tiles_load;
mod weights;

pub use product::{End, Hidden, Layer, Matrix, linear};
