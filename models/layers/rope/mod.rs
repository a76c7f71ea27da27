//! Rotary position embeddings.

mod frequencies;
mod parameters;
mod table;

pub use parameters::{RopeParameters, RopeType};
pub use table::Rope;
