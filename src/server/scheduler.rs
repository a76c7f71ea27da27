//! The thread that owns the model: lets requests join the batch as there is room, and runs its passes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use leveret_models::Backend;
use tokio::sync::mpsc::UnboundedSender;

use super::failure::Failure;
use super::metrics::Metrics;
use crate::batch::Batch;
use crate::constraint::Constraint;
use crate::generate::Token;
use crate::options::GenerateOptions;

/// What a request asks of the model: replies to one prompt, one for each constraint.
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) options: GenerateOptions,
    pub(super) constraints: Vec<Option<Box<dyn Constraint>>>,
    /// The number of its first reply among those of the request.
    pub(super) first: usize,
    pub(super) events: UnboundedSender<Event>,
}

/// A token of a reply, its `sequence` being the number of the reply, or why there will be none.
pub(super) type Event = Result<Token, Failure>;

/// A reply that goes on, and who reads it.
struct Reader {
    events: UnboundedSender<Event>,
    index: usize,
}

/// Works until nobody can send jobs any more and all are done.
pub(super) fn run<B: Backend>(mut batch: Batch<'_, B>, jobs: &Receiver<Job>, metrics: &Arc<Metrics>) {
    let mut waiting = VecDeque::new();
    let mut readers: HashMap<usize, Reader> = HashMap::new();
    loop {
        if batch.is_empty() && waiting.is_empty() {
            match jobs.recv() {
                Ok(job) => waiting.push_back(job),
                Err(_) => return,
            }
        }
        waiting.extend(jobs.try_iter());
        let before = waiting.len();
        waiting.retain(|job: &Job| !job.events.is_closed());
        metrics.waiting.fetch_sub((before - waiting.len()) as u64, Ordering::Relaxed);
        readers.retain(|id, reader| {
            let stays = !reader.events.is_closed();
            if !stays {
                batch.leave(*id);
            }
            stays
        });
        while let Some(job) = waiting.pop_front_if(|job| job.constraints.len() <= batch.room()) {
            metrics.waiting.fetch_sub(1, Ordering::Relaxed);
            let Job { prompt, options, constraints, first, events } = job;
            match batch.join_several(prompt, &options, constraints) {
                Ok(ids) => ids.enumerate().for_each(|(i, id)| {
                    readers.insert(id, Reader { events: events.clone(), index: first + i });
                }),
                Err(error) => drop(events.send(Err(error.into()))),
            }
        }
        metrics.running.store(batch.len() as u64, Ordering::Relaxed);
        if batch.is_empty() {
            continue;
        }
        match batch.step() {
            Ok((tokens, pass)) => {
                metrics.note(&pass, tokens.len());
                for mut token in tokens {
                    let (id, ends) = (token.sequence, token.finish_reason.is_some());
                    if let Some(Reader { events, index }) = readers.get(&id) {
                        token.sequence = *index;
                        let _ = events.send(Ok(token));
                    }
                    if ends {
                        readers.remove(&id);
                    }
                }
            }
            Err(error) => {
                let failure = Failure::from(error);
                readers.drain().for_each(|(_, reader)| drop(reader.events.send(Err(failure.clone()))));
            }
        }
        for (id, error) in batch.take_failures() {
            if let Some(reader) = readers.remove(&id) {
                let _ = reader.events.send(Err(error.into()));
            }
        }
        metrics.running.store(batch.len() as u64, Ordering::Relaxed);
    }
}
