use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::failure::Failure;
use super::fields::ResponseFormat;
use super::metrics::Metrics;
use super::router::ServerOptions;
use super::scheduler::Job;
use crate::constraint::Constraint;
use crate::encoder::Encoder;
use crate::json_schema::{Grammars, JsonSchema};

/// The most seconds that a request may take: a year, which clocks can add.
const LONGEST: u64 = 365 * 86_400;

/// What all requests share.
pub(super) struct State {
    pub(super) options: ServerOptions,
    pub(super) encoder: Encoder,
    /// What replies are kept to schemas with, or why they cannot be.
    pub(super) grammars: Result<Grammars, Failure>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) jobs: Sender<Job>,
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

    /// Hands a job to the scheduler, unless too many wait.
    pub(super) fn queue(&self, job: Job) -> Result<(), Failure> {
        let (most, waiting) = (self.options.queue, &self.metrics.waiting);
        if job.constraints.len() > self.options.max_sequences {
            let most = self.options.max_sequences;
            return Err(Failure::invalid("n", format!("at most {most} replies are computed at once")));
        }
        let free = |waiting: u64| (waiting < most as u64).then_some(waiting + 1);
        let queued = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        queued.map_err(|_| Failure::queue_full(most))?;
        self.jobs.send(job).map_err(|_| Failure::stopped())
    }

    /// What holds a reply to the form that a request asks for.
    pub(super) fn constraint(&self, format: Option<&ResponseFormat>) -> Result<Option<Box<dyn Constraint>>, Failure> {
        let schema = match format {
            None | Some(ResponseFormat::Text) => return Ok(None),
            Some(ResponseFormat::JsonObject) => json!({ "type": "object" }),
            Some(ResponseFormat::JsonSchema { json_schema }) => json_schema.schema.clone().unwrap_or(json!({})),
        };
        match &self.grammars {
            Ok(grammars) => Ok(Some(Box::new(JsonSchema::new(grammars, &schema)?))),
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
