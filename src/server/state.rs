use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::health::Health;
use super::limits::Limits;
use super::metrics::Metrics;
use super::options::ServerOptions;
use super::scheduler::Job;
use super::words::Words;
use crate::encoder::Encoder;
use crate::json_schema::{Grammars, JsonSchema};

/// The most seconds that a request may take: a year, which clocks can add.
const LONGEST: u64 = 365 * 86_400;

/// What all requests share.
pub(super) struct State {
    pub(super) options: ServerOptions,
    pub(super) encoder: Encoder,
    pub(super) words: Words,
    pub(super) limits: Limits,
    /// What replies are kept to schemas with, or why they cannot be.
    pub(super) grammars: Result<Grammars, Failure>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) jobs: Sender<Job>,
    /// A permit for each request that goes on; none are left once the server ends.
    pub(super) permits: Arc<Semaphore>,
    /// Seconds since 1970 at which the server started.
    pub(super) started: u64,
}

impl State {
    /// Refuses a model that is not the one that is served.
    pub(super) fn check_model(&self, model: Option<&str>) -> Result<(), Failure> {
        let served = &self.options.name;
        match model.filter(|model| model != served) {
            Some(other) => Err(Failure::unknown_model(other, served)),
            None => Ok(()),
        }
    }

    /// Refuses a request where too many wait, before anything is done for it.
    pub(super) fn check_queue(&self) -> Result<(), Failure> {
        match self.has_room(self.metrics.waiting.load(Ordering::Relaxed)) {
            true => Ok(()),
            false => Err(Failure::queue_full(self.options.queue)),
        }
    }

    fn has_room(&self, waiting: u64) -> bool {
        waiting < self.options.queue as u64
    }

    /// Hands a request to the scheduler, unless too many wait.
    pub(super) fn queue(&self, job: Job) -> Result<(), Failure> {
        let (most, waiting) = (self.options.queue, &self.metrics.waiting);
        let free = |waiting: u64| self.has_room(waiting).then_some(waiting + 1);
        let queued = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        queued.map_err(|_| Failure::queue_full(most))?;
        self.jobs.send(job).map_err(|_| {
            // Nobody is in the queue any more, which may have been noted already.
            let left = |waiting: u64| Some(waiting.saturating_sub(1));
            let _ = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
            Failure::scheduler_ended()
        })
    }

    /// What keeps replies to a schema; its grammar is compiled here, which may take its time.
    pub(super) fn constraint(&self, schema: &Value) -> Result<JsonSchema, Failure> {
        match &self.grammars {
            Ok(grammars) => Ok(JsonSchema::new(grammars, schema)?),
            Err(failure) => Err(failure.clone()),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.options.timeout.min(LONGEST))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
