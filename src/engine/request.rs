use super::Rows;

/// What a generation asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Sequences.
    pub(crate) batch: usize,
    /// Columns of the longest pass.
    pub(crate) seq: usize,
    /// Columns of the KV cache in the end.
    pub(crate) columns: usize,
    pub(crate) rows: Rows,
    /// Whether sequences come and go: their caches are then copied, a layer at a time.
    pub(crate) joins: bool,
}

impl Request {
    /// One sequence, or several that begin and end together.
    pub(crate) fn new(batch: usize, seq: usize, columns: usize, rows: Rows) -> Self {
        Self { batch, seq, columns, rows, joins: false }
    }

    /// The least that can be asked for.
    pub(crate) fn one_token() -> Self {
        Self::new(1, 1, 1, Rows::Last)
    }
}
