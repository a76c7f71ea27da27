use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::fields::Fields;
use super::scheduler::{Event, Job, Part};
use super::state::State;
use crate::constraint::Constraint;
use crate::generate::Token;
use crate::prompt::Prompt;

/// The replies to a request, as they come; when this is dropped, they end.
pub(super) struct Replies {
    events: UnboundedReceiver<Event>,
    pub(super) deadline: Instant,
    seconds: u64,
    pub(super) count: usize,
    pub(super) prompt_tokens: usize,
    unfinished: usize,
    /// Keeps the server from ending meanwhile.
    _permit: OwnedSemaphorePermit,
}

impl Replies {
    /// Asks for `fields.n` replies to each prompt.
    pub(super) async fn ask(
        state: &Arc<State>,
        prompts: Vec<Prompt>,
        fields: &Fields,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let permit = state.permits.clone().try_acquire_owned().map_err(|_| Failure::stopped())?;
        state.check_queue()?;
        let (shared, wanted) = (state.clone(), fields.clone());
        // Templates, tokenizers and grammars may take their time.
        let parts = tokio::task::spawn_blocking(move || parts(&shared, prompts, &wanted)).await;
        let parts = parts.map_err(|_| Failure::unprepared())??;
        let count = parts.len() * fields.n;
        let prompt_tokens = parts.iter().map(|part| part.prompt.len()).sum();
        let (sender, events) = unbounded_channel();
        state.queue(Job { parts, options: fields.options.clone(), events: sender })?;
        let (seconds, unfinished) = (state.options.timeout, count);
        Ok(Self { events, deadline, seconds, count, prompt_tokens, unfinished, _permit: permit })
    }

    /// The next token of any reply; none when all have ended.
    pub(super) async fn next(&mut self) -> Option<Result<Token, Failure>> {
        if self.unfinished == 0 {
            return None;
        }
        let event = match timeout_at(self.deadline, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => Err(Failure::scheduler_ended()),
            Err(_) => Err(Failure::timeout(self.seconds)),
        };
        match &event {
            Ok(token) if token.finish_reason.is_some() => self.unfinished -= 1,
            Ok(_) => {}
            Err(_) => self.unfinished = 0,
        }
        Some(event)
    }
}

/// A request as the scheduler takes it, prompt by prompt, unless something about it cannot be.
fn parts(state: &State, prompts: Vec<Prompt>, fields: &Fields) -> Result<VecDeque<Part>, Failure> {
    let (n, most) = (fields.n, state.options.max_sequences);
    if n > most {
        return Err(Failure::invalid("n", format!("n is {n}, expected at most {most}, which are computed at once")));
    }
    if let Some((id, _)) = fields.options.logit_bias.iter().find(|(id, _)| !state.limits.knows(*id)) {
        return Err(Failure::invalid(
            "logit_bias",
            format!("logit_bias names token {id}, which the model does not have"),
        ));
    }
    let constraint = fields.schema.as_ref().map(|schema| state.constraint(schema)).transpose()?;
    let part = |(i, prompt)| {
        let prompt = state.encoder.encode(prompt)?;
        state.limits.check(&prompt, &fields.options)?;
        let one = || constraint.clone().map(|constraint| Box::new(constraint) as Box<dyn Constraint>);
        Ok(Part { prompt, constraints: (0..n).map(|_| one()).collect(), first: i * n })
    };
    prompts.into_iter().enumerate().map(part).collect()
}
