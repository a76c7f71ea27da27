/// What numbers of `x` can be told as without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exact {
    /// Any f32.
    F32,
    /// Those of f16.
    F16,
    /// Those of bf16: the lower halves of their f32 are zeros.
    Bf16,
}
