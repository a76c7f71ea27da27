//! GPU kernels in CubeCL, for any of its runtimes.
//!
//! Shapes and lengths are values at run time: a kernel is compiled once for its dtypes and its vector width, which
//! follows from the model's sizes alone.

mod append;
mod attention;
mod attention_planes;
mod attention_tiles;
mod elementwise;
mod linear;
mod linear_planes;
mod linear_tiles;
mod mma;
mod norm;
mod rope;
mod running;
mod tensor;

pub(super) use append::append;
pub(super) use attention::{Input as AttentionInput, attention, suits as suits_attention};
pub(super) use elementwise::{add, gated};
pub(super) use linear::linear;
pub(super) use norm::rms_norm;
pub(super) use rope::rotate;
pub(super) use tensor::unwritten;
