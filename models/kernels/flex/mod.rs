//! The CPU: weights are multiplied where they lie, by the kernels of [`cpu`](super::cpu).

mod arrays;
mod backend;
mod heads;
mod tensors;
#[cfg(test)]
mod tests;
