use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are. Of the process, as cubecl's devices and streams are.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// An upload to any GPU on a stream of its own, from before its copies are begun until they have been waited for.
///
/// While one is under way, the host waits for long products, since what the GPU could wait for by itself counts copies as
/// well. Results are the same in either case: an upload that begins meanwhile waits for some products at most.
#[derive(Debug)]
pub struct Uploading(());

impl Uploading {
    /// Says that an upload begins.
    pub fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether any is under way.
    pub(super) fn any() -> bool {
        UNDER_WAY.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}
