use std::future::Future;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use axum::Router;
use leveret_models::Backend;
use tokio::sync::{Semaphore, oneshot};

use super::failure::Failure;
use super::health::Health;
use super::limits::Limits;
use super::metrics::Metrics;
use super::options::ServerOptions;
use super::origin::Guard;
use super::router::router;
use super::scheduler;
use super::state::{State, now};
use super::words::Words;
use crate::error::{AtPath, Error, Result};
use crate::model::Model;

/// Requests that go on at once at most.
const REQUESTS: u32 = 1 << 20;

/// How long connections may take to send what has been computed.
const GRACE: Duration = Duration::from_secs(2);

/// A model and what its requests may take.
#[derive(Debug)]
pub struct Server<B: Backend> {
    model: Model<B>,
    options: ServerOptions,
}

impl<B: Backend> Server<B> {
    /// Makes room for all that the server computes at once: what does not fit is told before anybody can ask.
    pub fn new(mut model: Model<B>, options: ServerOptions) -> Result<Self> {
        model.batch(options.max_sequences, options.context)?;
        Ok(Self { model, options })
    }

    /// Serves at a socket until `shutdown`, then ends what has been begun.
    pub fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Self { mut model, options } = self;
        let (jobs, receiver) = channel();
        let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
        let (max_sequences, context) = (options.max_sequences, options.context);
        let address = listener.local_addr().at("socket")?;
        let permits = Arc::new(Semaphore::new(REQUESTS as usize));
        let guard = Arc::new(Guard::new(&options, address.ip()));
        let state = Arc::new(State {
            encoder: model.encoder().clone(),
            words: Words::new(model.encoder()),
            limits: Limits::new(&model, context),
            grammars: model.grammars().map_err(Failure::from),
            metrics: metrics.clone(),
            health: health.clone(),
            jobs,
            permits: permits.clone(),
            started: now(),
            options,
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().at("threads")?;
        let batch = model.batch(max_sequences, context)?;
        let address = address.to_string();
        listener.set_nonblocking(true).at(&address)?;
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                let served = runtime.block_on(listen(listener, router(state, guard), shutdown, permits));
                // What still computes for nobody need not be waited for.
                runtime.shutdown_background();
                served
            });
            // Ends when the server has: then nobody can send jobs any more.
            let work = AssertUnwindSafe(|| scheduler::run(batch, &receiver, &metrics, &health));
            if let Err(panic) = catch_unwind(work) {
                health.ended_with(panic.as_ref());
            }
            // Whoever waits or comes now is told.
            drop(receiver);
            metrics.clear();
            match server.join() {
                Ok(served) => served.at(&address)?,
                Err(panic) => health.ended_with(panic.as_ref()),
            }
            match health.ended() {
                Some(reason) => Err(Error::SchedulerEnded { reason: reason.to_owned() }),
                None => Ok(()),
            }
        })
    }
}

/// Answers until `shutdown`, and then until all requests that have begun are answered.
async fn listen(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    permits: Arc<Semaphore>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (sender, ending) = oneshot::channel();
    let shutdown = async {
        shutdown.await;
        let _ = sender.send(());
    };
    // A connection on which nothing is asked, or not to the end, would be waited for without end.
    let answered = async {
        let _ = ending.await;
        let _all = permits.acquire_many(REQUESTS).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(shutdown).into_future() => served,
        () = answered => Ok(()),
    }
}
