use super::simd::Simd;

/// Work that is written once, and compiled for each instruction set.
pub(super) trait Work {
    /// Does it; to be marked `#[inline(always)]`, like all it calls, so that it is compiled where it is called from.
    fn run<S: Simd>(self, simd: S);
}
