//! Experts that stay where they are needed: those that were used last.

mod memory;
mod pool;
mod recent;

pub(crate) use pool::{Call, Pool, Shape};
