//! The thread that owns the model: lets requests join the batch as there is room, and runs its passes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use leveret_models::Backend;
use tokio::sync::mpsc::UnboundedSender;

use super::failure::Failure;
use super::health::Health;
use super::metrics::Metrics;
use crate::batch::Batch;
use crate::constraint::Constraint;
use crate::generate::Token;
use crate::options::GenerateOptions;

/// What a request asks of the model.
pub(super) struct Job {
    /// At least one.
    pub(super) parts: VecDeque<Part>,
    pub(super) options: GenerateOptions,
    pub(super) events: UnboundedSender<Event>,
}

/// Replies to one prompt, one for each constraint; they join together.
pub(super) struct Part {
    pub(super) prompt: Vec<u32>,
    pub(super) constraints: Vec<Option<Box<dyn Constraint>>>,
    /// The number of its first reply among those of the request.
    pub(super) first: usize,
}

/// A token of a reply, its `sequence` being the number of the reply, or why there will be none.
pub(super) type Event = Result<Token, Failure>;

/// A reply that goes on, and who reads it.
struct Reader {
    events: UnboundedSender<Event>,
    index: usize,
}

/// Works until nobody can send jobs any more and all are done.
pub(super) fn run<B: Backend>(mut batch: Batch<'_, B>, jobs: &Receiver<Job>, metrics: &Metrics, health: &Health) {
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
        readers.retain(|id, reader| {
            let stays = !reader.events.is_closed();
            if !stays {
                batch.leave(*id);
            }
            stays
        });
        join(&mut batch, &mut waiting, &mut readers);
        metrics.waiting.fetch_sub((before - waiting.len()) as u64, Ordering::Relaxed);
        metrics.running.store(batch.len() as u64, Ordering::Relaxed);
        if batch.is_empty() {
            continue;
        }
        let pass = batch.step();
        health.passed(&pass);
        match pass {
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

/// Lets those join who came first, as far as there is room.
fn join<B: Backend>(batch: &mut Batch<'_, B>, waiting: &mut VecDeque<Job>, readers: &mut HashMap<usize, Reader>) {
    while let Some(Job { parts, options, events }) = waiting.front_mut() {
        match parts.pop_front_if(|part| part.constraints.len() <= batch.room()) {
            Some(Part { prompt, constraints, first }) => match batch.join_several(prompt, options, constraints) {
                Ok(ids) => ids.enumerate().for_each(|(i, id)| {
                    readers.insert(id, Reader { events: events.clone(), index: first + i });
                }),
                Err(error) => {
                    parts.clear();
                    let _ = events.send(Err(error.into()));
                }
            },
            None if parts.is_empty() => {}
            None => return,
        }
        if parts.is_empty() {
            waiting.pop_front();
        }
    }
}
