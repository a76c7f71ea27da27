//! GPU kernels in CubeCL, for any of its runtimes.
//!
//! Lengths are values at run time: a kernel is compiled once for its dtypes and its vector width, which follow from the
//! model's sizes alone; the one for one row by packed weights for each size of matrix.

mod append;
mod attention;
mod attention_load;
mod attention_planes;
mod attention_split;
mod attention_tiles;
mod elementwise;
mod heads;
mod launch;
mod linear;
mod mma;
mod norm;
mod running;
mod tensor;

pub(super) use append::append;
pub(super) use attention::{Input as AttentionInput, attention, suits as suits_attention};
pub(super) use elementwise::{add, gated};
pub(super) use heads::{Heads, append_heads};
pub(super) use linear::{End, Hidden, Layer, Matrix, PANEL, linear, panels, unpacked};
pub(super) use norm::rms_norm;
pub(super) use tensor::{contiguous as in_one_piece, empty, unwritten};
