//! The operations of [`Backend`](crate::Backend) written for one backend.

#[cfg(all(test, feature = "cuda", feature = "flex"))]
mod check;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cuda")]
mod cube;
#[cfg(feature = "cuda")]
mod cublas;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "flex")]
mod flex;

#[cfg(feature = "cuda")]
pub use cublas::Uploading;

/// The instructions that kernels for CPUs are made of on this one, such as `AVX-512`; none where they are portable.
#[cfg(feature = "flex")]
pub fn cpu_instructions() -> Option<&'static str> {
    cpu::Level::best().name()
}
