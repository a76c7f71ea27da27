//! Products of many rows by NVIDIA's cuBLASLt, where the system has it: loaded at run time, in the first long prompt.
//!
//! cubecl does not tell which stream it computes on, so a product runs on a stream of its own, and the two take turns:
//! by events of the whole context, or, while weights are uploaded or where the driver is older than these, by the host's
//! waiting for one and then the other, some 20 µs, which many rows repay.

mod library;
mod matmul;
mod turns;
mod uploading;

pub(super) use library::WORKSPACE;
pub(super) use matmul::matmul;
pub use uploading::Uploading;
