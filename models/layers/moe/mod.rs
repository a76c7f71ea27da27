//! Mixtures of experts: a router chooses for each token, and experts come one by one.

mod block;
mod expert;
mod experts;
mod routed;
mod router;
mod routing;
mod transposed;

pub use block::{FeedForward, Moe};
pub use expert::Expert;
pub use experts::{ExpertKind, ExpertNames, Experts, Part, Place};
pub use routed::{Choice, Mixture, Routed};
pub use router::{Correction, Router};
pub use routing::{Groups, Normed, Routing, Scoring};
pub use transposed::TransposedExpert;
