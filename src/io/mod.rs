//! Bytes of a range of a file into a caller's buffer.

mod coming;
mod direct;
mod piece;
mod small_file;
mod weight_file;

pub(crate) use coming::{Coming, ComingFiles, Place};
pub(crate) use direct::{BLOCK, open as open_direct};
pub(crate) use piece::Piece;
pub(crate) use small_file::{read_small, read_text};
pub(crate) use weight_file::WeightFile;
#[cfg(feature = "hub")]
pub(crate) use weight_file::read_at;
