//! Compares a model with another implementation's answers, or with another model on a text.

mod comparison;
mod odds;
mod reference;
mod report;

pub use comparison::Comparison;
pub use report::{Reply, Report, Verdict};
