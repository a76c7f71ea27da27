use super::numbers::Numbers;

/// Heads of numbers as they lie, `[batch, heads, rows, head_dim]`, each row's numbers side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// The memory that they lie in.
    pub(crate) numbers: Numbers<'a>,
    /// Where the first one lies.
    pub(crate) start: usize,
    /// From one sequence, head and row to the next.
    pub(crate) strides: [usize; 3],
    /// `[batch, heads, rows, head_dim]`
    pub(crate) shape: [usize; 4],
}

impl View<'_> {
    /// Writes the numbers of a row in f32.
    #[inline(always)]
    pub(super) fn row(&self, at: [usize; 3], to: &mut [f32]) {
        let offset: usize = at.iter().zip(self.strides).map(|(at, stride)| at * stride).sum();
        self.numbers.widen(self.start + offset, to);
    }
}
