/// What is asked for while weights are multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// How far it lies behind them.
    pub(super) bytes: usize,
    /// Whether it is read once, and so passes by the second-level cache: otherwise it would push `x` out of the first.
    pub(super) once: bool,
}

impl Ahead {
    /// What is at hand.
    pub(super) const HERE: Self = Self { bytes: 0, once: false };
}
