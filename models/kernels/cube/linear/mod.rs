//! Linear layers: weights multiplied as they are read, dense or packed.

mod block;
mod dense;
mod ending;
mod input;
mod packed;
mod panels;
mod planes;
mod product;
mod row;
mod row_codes;
mod row_cursor;
mod row_load;
mod row_products;
mod row_sums;
mod staged;
mod sums;
mod tiles;
mod tiles_load;
mod tiles_products;
mod weights;

pub use panels::{PANEL, panels, unpacked};
pub use product::{End, Hidden, Layer, Matrix, linear};
