use std::sync::atomic::{AtomicUsize, Ordering};

static GO_ON: AtomicUsize = AtomicUsize::new(0);

/// A copy to a CUDA device, on a stream of its own, until this is dropped.
///
/// While one goes on, long products are waited for by the host, since whatever a GPU itself could wait for would hold
/// up copies, too.
#[derive(Debug)]
pub struct Copying(());

impl Copying {
    /// Says that one is begun.
    pub fn begin() -> Self {
        GO_ON.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether any does.
    pub(super) fn goes_on() -> bool {
        GO_ON.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        GO_ON.fetch_sub(1, Ordering::Relaxed);
    }
}
