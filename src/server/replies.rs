use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::fields::Fields;
use super::scheduler::{Event, Job};
use super::state::State;
use crate::generate::Token;
use crate::options::GenerateOptions;
use crate::prompt::Prompt;

/// The replies to a request, as they come; when this is dropped, they end.
pub(super) struct Replies {
    events: UnboundedReceiver<Event>,
    deadline: Instant,
    seconds: u64,
    pub(super) count: usize,
    pub(super) prompt_tokens: usize,
    unfinished: usize,
}

impl Replies {
    /// Asks for `fields.n` replies to each prompt.
    pub(super) async fn ask(
        state: &Arc<State>,
        prompts: Vec<Prompt>,
        fields: &Fields,
        options: GenerateOptions,
    ) -> Result<Self, Failure> {
        let (n, (sender, events)) = (fields.n()?, unbounded_channel());
        let deadline = Instant::now() + state.timeout();
        let (mut prompt_tokens, mut count) = (0, 0);
        for prompt in prompts {
            let encoder = state.encoder.clone();
            // A template may take its time.
            let prompt = tokio::task::spawn_blocking(move || encoder.encode(prompt)).await;
            let prompt = prompt.map_err(|_| Failure::stopped())??;
            prompt_tokens += prompt.len();
            let constraints = (0..n).map(|_| state.constraint(fields.response_format.as_ref()));
            let constraints = constraints.collect::<Result<_, _>>()?;
            let job = Job { prompt, options: options.clone(), constraints, first: count, events: sender.clone() };
            state.queue(job)?;
            count += n;
        }
        Ok(Self { events, deadline, seconds: state.options.timeout, count, prompt_tokens, unfinished: count })
    }

    /// The next token of any reply; none when all have ended.
    pub(super) async fn next(&mut self) -> Option<Result<Token, Failure>> {
        if self.unfinished == 0 {
            return None;
        }
        let event = match timeout_at(self.deadline, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => Err(Failure::stopped()),
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
