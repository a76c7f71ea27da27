use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cudarc::driver::result::{self, stream::StreamKind};
use cudarc::driver::sys;

use super::Copying;

/// Whose turn it is on a device: cubecl's, which does not tell its streams, or that of one stream beside them.
pub(super) struct Turns {
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// `None` where the driver is older than CUDA 12.5.
    events: Option<Events>,
}

impl Turns {
    pub(super) fn new(context: sys::CUcontext) -> Option<Self> {
        // SAFETY: the caller has retained the context, until the process ends.
        unsafe { result::ctx::set_current(context) }.ok()?;
        let stream = result::stream::create(StreamKind::NonBlocking).ok()?;
        Some(Self { context, stream, events: Events::new() })
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// What is given to the stream from now on comes after everything that cubecl has been given.
    pub(super) fn begin(&self, client: &ComputeClient<CudaRuntime>) -> Option<()> {
        // SAFETY: as in `new`.
        unsafe { result::ctx::set_current(self.context) }.ok()?;
        match self.events().and_then(|events| events.all_before(self)) {
            Some(()) => Some(()),
            None => cubecl::future::block_on(client.sync()).ok(),
        }
    }

    /// What is given to cubecl from now on comes after everything that the stream has been given.
    pub(super) fn end(&self) -> Option<()> {
        match self.events().and_then(|events| events.before_all(self)) {
            Some(()) => Some(()),
            // SAFETY: the stream lives until the process ends.
            None => unsafe { result::stream::synchronize(self.stream) }.ok(),
        }
    }

    /// Those of a context count copies, too, which would no longer go on beside products.
    fn events(&self) -> Option<&Events> {
        self.events.as_ref().filter(|_| !Copying::goes_on())
    }
}

/// Events of a whole context: without them, the host waits for one side and then the other.
struct Events {
    record: OfContext,
    wait: OfContext,
    event: sys::CUevent,
}

type OfContext = unsafe extern "C" fn(sys::CUcontext, sys::CUevent) -> sys::CUresult;

impl Events {
    /// In the context that is current.
    fn new() -> Option<Self> {
        // SAFETY: the driver is loaded, and its functions have these types since they exist.
        let found = |name: &[u8]| unsafe { sys::culib().get::<OfContext>(name) }.map(|function| *function).ok();
        let (record, wait) = (found(b"cuCtxRecordEvent\0")?, found(b"cuCtxWaitEvent\0")?);
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).ok()?;
        Some(Self { record, wait, event })
    }

    /// The stream waits for what all have been given.
    fn all_before(&self, turns: &Turns) -> Option<()> {
        let waits = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the event was made in the context, and it, the context and the stream live until the process ends.
        unsafe {
            (self.record)(turns.context, self.event).result().ok()?;
            result::stream::wait_event(turns.stream, self.event, waits).ok()
        }
    }

    /// All wait for what the stream has been given.
    fn before_all(&self, turns: &Turns) -> Option<()> {
        // SAFETY: as above.
        unsafe {
            result::event::record(self.event, turns.stream).ok()?;
            (self.wait)(turns.context, self.event).result().ok()
        }
    }
}
