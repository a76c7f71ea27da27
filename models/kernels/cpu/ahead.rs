/// What is asked for while weights are multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// How far it lies behind them.
    pub(super) bytes: usize,
    /// Whether it makes room in the caches at once when it has been used: where `x` would have to go otherwise.
    pub(super) once: bool,
}

impl Ahead {
    /// What is at hand.
    pub(super) const HERE: Self = Self { bytes: 0, once: false };
}
