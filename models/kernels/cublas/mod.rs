//! Products of many rows by NVIDIA's cuBLASLt, where the system has it: loaded at run time, in the first long prompt.
//!
//! cubecl does not tell which stream it computes on, so a product waits for what was computed before, runs on a stream of
//! its own, and is waited for: some 20 µs, which many rows repay.

mod library;
mod matmul;

pub(super) use library::WORKSPACE;
pub(super) use matmul::matmul;
