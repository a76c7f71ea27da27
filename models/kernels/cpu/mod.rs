//! Products, norms and attention on the CPU: numbers are read where they lie, packed as they are, and become f32 in
//! registers.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod attention_block;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_parts;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_fp8;
#[cfg(target_arch = "x86_64")]
mod avx512_order;
#[cfg(target_arch = "x86_64")]
mod avx512_parts;
#[cfg(target_arch = "x86_64")]
mod avx512_runs;
mod columns;
mod convert;
mod dense;
mod entry;
mod exact;
mod exp;
mod few_rows;
mod format;
mod fp8;
mod gate;
mod input;
mod int4;
mod int8;
mod level;
mod many_rows;
mod matrix;
mod multiply;
#[cfg(target_arch = "aarch64")]
mod neon;
mod norm;
mod numbers;
mod pairs;
mod portable;
mod rotation;
mod scores;
mod simd;
pub(crate) mod team;
#[cfg(test)]
mod tests;
mod tile;
mod view;
mod work;

pub(crate) use attention::Attention;
pub(crate) use convert::{narrow, widen};
pub(crate) use exact::Exact;
pub(crate) use gate::gate_by_silu;
pub(crate) use level::Level;
pub(crate) use matrix::{Matrix, Weights};
pub(crate) use multiply::multiply_each;
pub(crate) use norm::rms_norm;
pub(crate) use numbers::{Numbers, NumbersMut};
pub(crate) use rotation::Rotation;
pub(crate) use view::View;
