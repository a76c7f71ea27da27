//! Weights of linear layers: as checkpoints store them, or packed into fewer bits.
//!
//! A packed format is one file with its layout, its encoder and its decoder, and one line in [`Format`].

mod format;
mod fp8;
mod group;
mod int4;
mod int8;
mod linear;
mod packed;

pub use format::{Format, Part};
pub(crate) use group::GROUP;
pub use linear::Weight;
pub use packed::Packed;
