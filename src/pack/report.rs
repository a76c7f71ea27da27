use serde::Serialize;

/// What packing has made of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PackReport {
    /// The format's name.
    pub format: &'static str,
    /// Bytes of all tensors before.
    pub source_bytes: u64,
    /// Bytes of all tensors after.
    pub bytes: u64,
    /// Matrices that were packed.
    pub packed_matrices: usize,
    /// Matrices of linear layers that stay as they are, since groups do not fill their rows.
    pub dense_matrices: usize,
    /// Weights of the packed matrices.
    pub packed_weights: u64,
    /// Bits of one of them, scales included.
    pub bits_per_weight: f64,
    /// The root of their mean squared error, as a fraction of the root of their mean square.
    pub relative_error: f64,
    /// Files of weights that there are now.
    pub shards: usize,
    /// Those of them that an earlier run had left whole.
    pub kept_shards: usize,
}

/// How far packing has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackProgress<'a> {
    /// The part of the model that is written now, such as `layer 3`.
    pub part: &'a str,
    /// Bytes of the new shards that are there already.
    pub done: u64,
    /// Bytes of all new shards.
    pub total: u64,
}
