//! The operations of [`Backend`](crate::Backend) written for one backend.

#[cfg(feature = "flex")]
mod flex;
