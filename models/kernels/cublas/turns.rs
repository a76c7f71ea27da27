use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cudarc::driver::result::{self, stream::StreamKind};
use cudarc::driver::sys;

use super::Uploading;

/// Whose turn it is in a device's primary context: cubecl's, which does not tell its streams, or that of one stream beside
/// them. Any other stream of the context waits along with cubecl's.
pub(super) struct Turns {
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// `None` where the driver is older than CUDA 12.5.
    events: Option<Events>,
}

impl Turns {
    /// Leaves the device's context current.
    pub(super) fn new(device: usize) -> Option<Self> {
        let device = result::device::get(i32::try_from(device).ok()?).ok()?;
        // SAFETY: cubecl has initialised the driver; the context stays retained until the process ends.
        let context = unsafe { result::primary_ctx::retain(device) }.ok()?;
        // SAFETY: the context has just been retained.
        unsafe { result::ctx::set_current(context) }.ok()?;
        let stream = result::stream::create(StreamKind::NonBlocking).ok()?;
        Some(Self { context, stream, events: Events::new() })
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// What is given to the stream from now on comes after everything that cubecl has been given. Leaves the context
    /// current.
    pub(super) fn begin(&self, client: &ComputeClient<CudaRuntime>) -> Option<()> {
        // SAFETY: the context lives until the process ends.
        unsafe { result::ctx::set_current(self.context) }.ok()?;
        match self.events().and_then(|events| events.stream_waits(self)) {
            Some(()) => Some(()),
            None => cubecl::future::block_on(client.sync()).ok(),
        }
    }

    /// What is given to cubecl from now on comes after everything that the stream has been given: its kernels, what it
    /// does with memory that goes back to it, and events that say what it has done.
    pub(super) fn end(&self) -> Option<()> {
        match self.events().and_then(|events| events.context_waits(self)) {
            Some(()) => Some(()),
            // SAFETY: the stream lives until the process ends.
            None => unsafe { result::stream::synchronize(self.stream) }.ok(),
        }
    }

    /// Those of a context count copies, too, which would no longer go on beside products.
    fn events(&self) -> Option<&Events> {
        self.events.as_ref().filter(|_| !Uploading::any())
    }
}

/// Events of a whole context. Without them, the host waits for one side and then for the other.
struct Events {
    record: OfContext,
    wait: OfContext,
    event: sys::CUevent,
}

type OfContext = unsafe extern "C" fn(sys::CUcontext, sys::CUevent) -> sys::CUresult;

impl Events {
    /// In the context that is current.
    fn new() -> Option<Self> {
        // By name: what cudarc has of older toolkits lacks them, and what it has of newer ones panics where a driver does.
        // SAFETY: the driver is loaded and stays so; these are the types of its functions.
        let found = |name: &[u8]| unsafe { sys::culib().get::<OfContext>(name) }.map(|function| *function).ok();
        let (record, wait) = (found(b"cuCtxRecordEvent\0")?, found(b"cuCtxWaitEvent\0")?);
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).ok()?;
        Some(Self { record, wait, event })
    }

    fn stream_waits(&self, turns: &Turns) -> Option<()> {
        let waits = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the event was made in the context, and it, the context and the stream live until the process ends. Who
        // waits for an event waits for what it was last recorded for, whatever it is recorded for afterwards.
        unsafe {
            (self.record)(turns.context, self.event).result().ok()?;
            result::stream::wait_event(turns.stream, self.event, waits).ok()
        }
    }

    fn context_waits(&self, turns: &Turns) -> Option<()> {
        // SAFETY: as in `stream_waits`.
        unsafe {
            result::event::record(self.event, turns.stream).ok()?;
            (self.wait)(turns.context, self.event).result().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Cuda;
    use burn::prelude::Tensor;
    use burn::tensor::backend::Backend as _;
    use burn::tensor::{DType, Distribution, Tolerance};
    use rstest::rstest;

    use super::super::library::Library;
    use super::*;
    use crate::layers::{Input, Linear};
    use crate::weight::{Format, Packed, Weight};
    use crate::{Backend, portable};

    type Hidden = Tensor<Cuda, 3>;

    fn random(shape: [usize; 2], size: f64) -> Tensor<Cuda, 2> {
        Tensor::<Cuda, 2>::random(shape, Distribution::Normal(0.0, size), &Default::default()).cast(DType::BF16)
    }

    fn layer(format: Option<Format>, shape: [usize; 2]) -> Linear<Cuda> {
        let weight = random(shape, (shape[1] as f64).powf(-0.5));
        let weight = match format {
            None => Weight::Dense(burn::module::Param::from_tensor(weight)),
            Some(format) => {
                let weight = weight.into_data().convert::<f32>().into_vec::<f32>().unwrap();
                Weight::Packed(Packed::pack(format, &weight, shape, &Default::default()))
            }
        };
        Linear::of(weight, None)
    }

    /// Products, each of what the last has made, with cubecl's own kernels between them; of packed weights several panels,
    /// whose memory is used again at once.
    #[rstest]
    #[case(None, 1024)]
    #[case(Some(Format::Int8), 8192)]
    #[ignore = "needs a GPU"]
    fn products_take_turns_as_when_the_host_waits(#[case] format: Option<Format>, #[case] inner: usize) {
        let (up, down) = (layer(format, [inner, 4096]), layer(format, [4096, inner]));
        let x: Hidden = random([1024, 4096], 1.0).unsqueeze();
        let pair = |x: Hidden| {
            let [y] = Cuda::linears(Input { x: x.clone(), norm: None }, [&up]);
            Cuda::linear_add(y.clamp(-2.0, 2.0), &down, x) * 0.5
        };
        // Uploads begin with this pair and end with that one.
        let chain = |begins: usize, ends: usize| {
            let mut upload = None;
            let step = |x, at| {
                if at == begins {
                    upload = Some(Uploading::begin());
                }
                if at == ends {
                    upload = None;
                }
                pair(x)
            };
            (0..20).fold(x.clone(), step).into_data()
        };
        let by_the_host = chain(0, 20);
        assert_eq!(chain(20, 20), by_the_host);
        assert_eq!(chain(7, 13), by_the_host);
        let want = portable::linear(x.clone(), &up).cast(DType::F32).into_data();
        let [y] = Cuda::linears(Input { x, norm: None }, [&up]);
        y.cast(DType::F32).into_data().assert_approx_eq::<f32>(&want, Tolerance::rel_abs(0.02, 0.05));
    }

    /// Who waits for what cubecl has been given waits for the stream, too, with nothing of cubecl's own behind it.
    #[test]
    #[ignore = "needs a GPU"]
    fn cubecl_is_done_when_the_stream_is() {
        let square = layer(None, [4096, 4096]);
        let x: Hidden = random([4096, 4096], 1.0).unsqueeze();
        let product = || Cuda::linears(Input { x: x.clone(), norm: None }, [&square]);
        <Cuda>::sync(&Default::default()).unwrap();
        let _warm = product();
        let library = Library::of(0).unwrap();
        let (stream, has_events) = {
            let library = library.lock().unwrap();
            (library.turns.stream() as usize, library.turns.events.is_some())
        };
        assert!(has_events, "the driver is older than CUDA 12.5");
        // SAFETY: the stream lives until the process ends.
        let is_done = || unsafe { sys::cuStreamQuery(stream as sys::CUstream) } == sys::CUresult::CUDA_SUCCESS;
        let kept: Vec<_> = (0..50).map(|_| product()).collect();
        assert!(!is_done(), "the host has waited");
        <Cuda>::sync(&Default::default()).unwrap();
        assert!(is_done());
        drop(kept);
    }
}
