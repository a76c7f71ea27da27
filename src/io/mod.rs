//! Bytes of a range of a file into a caller's buffer.

mod direct;
mod weight_file;

pub(crate) use direct::BLOCK;
pub(crate) use weight_file::WeightFile;
