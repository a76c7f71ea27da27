//! Products of many rows by NVIDIA's cuBLASLt, where the system has it: loaded at run time, in the first long prompt.
//!
//! cubecl does not tell which stream it computes on, so a product runs on a stream of its own, and the two take turns:
//! by events of the whole device, or, while weights are copied to it, by waiting for one and then the other, which takes
//! some 20 µs of the host's and is repaid by many rows.

mod copying;
mod library;
mod matmul;
mod turns;

pub use copying::Copying;
pub(super) use library::WORKSPACE;
pub(super) use matmul::matmul;
