use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Ends the passes of a model from another thread or a signal handler: within the time that one layer takes
/// for a chunk of a prompt, also while that layer's bytes are still on their way. A GPU does what it has been given, which where layers are resident
/// may be all of a prompt's.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Ends the pass that goes on, or the next one, with [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes back what no pass has ended by yet.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a pass is to end.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends what asks, once.
    pub(super) fn check(&self) -> Result<()> {
        match self.0.swap(false, Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}
