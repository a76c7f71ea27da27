//! Matrix products on the CPU: weights are read where they lie, packed as they are, and become f32 in registers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_parts;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_parts;
mod columns;
mod dense;
mod entry;
mod exact;
mod few_rows;
mod format;
mod fp8;
mod input;
mod int4;
mod int8;
mod level;
mod many_rows;
mod matrix;
mod multiply;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod simd;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use exact::Exact;
pub(crate) use matrix::{Matrix, Weights};
pub(crate) use multiply::multiply_each;
