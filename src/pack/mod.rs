//! Packs a checkpoint's linear layers into fewer bits, unit by unit, into a directory of its own.

mod contents;
mod deviation;
mod job;
mod matrix;
mod report;
mod shard;
mod target;

pub use job::Pack;
pub use report::{PackProgress, PackReport};
