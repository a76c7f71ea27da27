//! The token loop: prefill, decode, stop rules, a stream of tokens.

use std::path::Path;
use std::time::Instant;

use leveret_models::Backend;
use serde::Serialize;
use serde_json::Value;

use crate::cache::Cache;
use crate::constraint::Constraint;
use crate::engine::{Engine, Request, Rows};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::options::GenerateOptions;
use crate::sequence::{Logprobs, Next, Sequence, next_of_all};
use crate::session::{Reply, Session};
use crate::stats::{PassStats, Stats};
use crate::tokenizer::Tokenizer;

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// An end-of-sequence token or a stop string.
    Stop,
    /// `max_tokens`, or the model's last position.
    Length,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Token {
    /// Which sequence of the batch it belongs to.
    pub sequence: usize,
    /// Its id.
    pub id: u32,
    /// The text that it completes: whole characters, without stop strings and special tokens; may be empty.
    pub text: String,
    /// How likely it was, where that is asked for.
    pub logprobs: Option<Logprobs>,
    /// Set on the last token of a sequence.
    pub finish_reason: Option<FinishReason>,
}

impl Token {
    pub(crate) fn new(sequence: usize, Next { id, text, logprobs, finish_reason }: Next) -> Self {
        Self { sequence, id, text, logprobs, finish_reason }
    }
}

/// The reply to a prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Completion {
    /// The reply, without the prompt.
    pub text: String,
    /// Its ids, the end-of-sequence token included.
    pub tokens: Vec<u32>,
    /// Why it ended; `None` while it has not.
    pub finish_reason: Option<FinishReason>,
}

impl Completion {
    fn push(&mut self, token: &Token) {
        self.text.push_str(&token.text);
        self.tokens.push(token.id);
        self.finish_reason = token.finish_reason;
    }
}

/// A running generation: an iterator over tokens, in each pass one of every sequence that goes on.
pub struct Generation<'a, B: Backend> {
    engine: &'a mut Engine<B>,
    session: Held<'a, B>,
    sequences: Vec<Sequence<'a>>,
    /// What no pass has read yet of each; of those that have ended the last tokens, which nobody sees read again.
    unread: Vec<Vec<u32>>,
    /// Tokens of the last pass that are not yet given out, last first.
    ready: Vec<Token>,
    /// What has been given out.
    completions: Vec<Completion>,
    stats: Stats,
    started: Instant,
    failed: bool,
}

/// The cache of a generation alone, or that of a session.
enum Held<'a, B: Backend> {
    Own(Box<Cache<B>>),
    Lent(&'a mut Session<B>),
}

impl<'a, B: Backend> Generation<'a, B> {
    pub(crate) fn new(
        engine: &'a mut Engine<B>,
        tokenizer: Option<&'a Tokenizer>,
        config: &GenerationConfig,
        prompts: Vec<Vec<u32>>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::EmptyPrompt);
        }
        let prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let max_positions = engine.dims().max_positions;
        let max_tokens = config.max_tokens(options, prompt, max_positions)?;
        let seed: u64 = options.seed.unwrap_or_else(rand::random);
        let sequence = |prompt: &Vec<u32>| Sequence::new(prompt, (max_tokens, seed), tokenizer, config, options);
        let sequences = prompts.iter().map(sequence).collect::<Result<_>>()?;
        let (batch, columns) = (prompts.len(), prompt + max_tokens);
        let cache = engine.begin(Request::new(batch, prompt, columns, Rows::Last))?;
        Ok(Self::of(engine, Held::Own(Box::new(cache)), sequences, prompts, Vec::new(), Instant::now()))
    }

    /// Goes on in a session: of the prompt only what is new is computed, and a reply to it that was begun is given
    /// once more and goes on.
    pub(crate) fn within(
        engine: &'a mut Engine<B>,
        session: &'a mut Session<B>,
        tokenizer: Option<&'a Tokenizer>,
        config: &GenerationConfig,
        prompt: Vec<u32>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let started = Instant::now();
        session.check_model(engine)?;
        let context = session.context();
        let max_tokens = config.max_tokens(options, prompt.len(), context)?;
        let begun = session.reply.as_ref().filter(|reply| reply.prompt == prompt);
        let seed = begun.map(|reply| reply.seed).or(options.seed).unwrap_or_else(rand::random);
        let mut sequence = Sequence::new(&prompt, (max_tokens, seed), tokenizer, config, options)?;
        engine.check_tokens(&prompt)?;
        engine.make_room(Request::new(1, context, context, Rows::Last))?;
        let reply = begun.cloned().unwrap_or_else(|| Reply { prompt, tokens: Vec::new(), seed, drawn: 0 });
        let again = sequence.resume(reply.drawn, &reply.tokens)?;
        let ready = again.into_iter().map(|next| Token::new(0, next)).rev().collect();
        let mut unread = [reply.prompt.as_slice(), &reply.tokens].concat();
        let kept = session.keep_prefix_of(&unread, engine.fixed_up_to());
        unread.drain(..kept);
        session.reply = Some(reply).filter(|_| !sequence.is_finished());
        Ok(Self::of(engine, Held::Lent(session), vec![sequence], vec![unread], ready, started))
    }

    fn of(
        engine: &'a mut Engine<B>,
        session: Held<'a, B>,
        sequences: Vec<Sequence<'a>>,
        unread: Vec<Vec<u32>>,
        ready: Vec<Token>,
        started: Instant,
    ) -> Self {
        // Where no tokens are wanted, no last one will tell.
        let is_over = |sequence: &Sequence<'_>| sequence.is_finished() && ready.is_empty();
        let reason = |sequence| is_over(sequence).then_some(FinishReason::Length);
        let empty = |sequence| Completion { finish_reason: reason(sequence), ..Completion::default() };
        let completions = sequences.iter().map(empty).collect();
        let stats = Stats::default();
        Self { engine, session, sequences, unread, ready, completions, stats, started, failed: false }
    }

    /// The same, with tokens of one sequence that a constraint allows and no others; to be said before the first.
    ///
    /// A constraint that is new goes on where the one was that a reply of a session was begun with.
    pub fn constrained(mut self, sequence: usize, constraint: Box<dyn Constraint>) -> Result<Self> {
        let reply = match &self.session {
            Held::Own(_) => &[],
            Held::Lent(session) => session.reply.as_ref().map_or(&[][..], |reply| &reply.tokens),
        };
        let count = self.sequences.len();
        let of = self.sequences.get_mut(sequence).ok_or(Error::NoSequence { sequence, count })?;
        of.constrain(constraint, reply)?;
        Ok(self)
    }

    /// Writes the session that it goes on in as it is now, as [`Model::save_session`](crate::Model::save_session) does.
    pub fn save_session(&mut self, path: &Path, note: &Value) -> Result<()> {
        match &self.session {
            Held::Own(_) => Ok(()),
            Held::Lent(session) => self.engine.entered(|_| session.save(path, note)),
        }
    }

    /// The numbers so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What the tokens that it has given make; one completion for each prompt, also where an error has ended it. Text
    /// that might yet become a stop string, or half of a character, is not in them.
    pub fn completions(&self) -> &[Completion] {
        &self.completions
    }

    /// Runs to the end; one completion for each prompt, with what was given before.
    pub fn finish(mut self) -> Result<(Vec<Completion>, Stats)> {
        match self.find_map(Result::err) {
            Some(error) => Err(error),
            None => Ok((self.completions, self.stats)),
        }
    }

    /// One pass, and a token for every sequence that goes on.
    fn step(&mut self) -> Result<()> {
        let cache = match &mut self.session {
            Held::Own(cache) => cache,
            Held::Lent(session) => &mut session.cache,
        };
        let input = input(&self.unread, &self.sequences, cache.columns().columns() == 0);
        let (logits, mut pass) = self.engine.forward(&input, cache, Rows::Last)?;
        let started = Instant::now();
        let (mut going, mut turns) = (Vec::new(), Vec::new());
        for (index, (sequence, logits)) in self.sequences.iter_mut().zip(logits.rows()).enumerate() {
            if sequence.is_finished() {
                continue;
            }
            let unread = &mut self.unread[index];
            unread.drain(..input[index].len());
            if unread.is_empty() {
                going.push(index);
                turns.push((sequence, logits));
            }
        }
        let mut ready = Vec::new();
        for (index, next) in going.into_iter().zip(next_of_all(turns)) {
            let (next, unread) = (next?, &mut self.unread[index]);
            unread.extend(next.iter().map(|next| next.id));
            if let Held::Lent(session) = &mut self.session {
                session.noted(unread, &self.sequences[index]);
            }
            ready.extend(next.into_iter().map(|next| Token::new(index, next)));
        }
        ready.reverse();
        self.ready = ready;
        pass.sample_seconds = started.elapsed().as_secs_f64();
        pass.seconds += pass.sample_seconds;
        self.note(pass);
        Ok(())
    }

    fn note(&mut self, pass: PassStats) {
        if self.stats.units == 0 {
            self.stats.prefill = pass;
            self.stats.ttft = self.started.elapsed().as_secs_f64();
        } else {
            self.stats.decode.push(pass);
        }
        if let Some(plan) = self.engine.plan() {
            self.stats.units = plan.tiers.len();
            self.stats.resident_units = plan.resident();
            self.stats.planned_bytes = plan.bytes();
        }
        self.stats.layers = self.engine.dims().num_layers;
        self.stats.peak_device_bytes = self.engine.peak_memory();
    }
}

/// What a pass reads: in the first one all, then of each sequence as many tokens as there are of every one that goes on,
/// since padding stands before the first tokens alone.
fn input(unread: &[Vec<u32>], sequences: &[Sequence<'_>], first: bool) -> Vec<Vec<u32>> {
    if first {
        return unread.to_vec();
    }
    let going = unread.iter().zip(sequences).filter(|(_, sequence)| !sequence.is_finished());
    let width = going.map(|(unread, _)| unread.len()).min().unwrap_or(0);
    unread.iter().map(|unread| unread.iter().copied().cycle().take(width).collect()).collect()
}

impl<B: Backend> Iterator for Generation<'_, B> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.ready.is_empty() {
            if self.sequences.iter().all(Sequence::is_finished) {
                return None;
            }
            if let Err(error) = self.step() {
                self.failed = true;
                return Some(Err(error));
            }
        }
        let token = self.ready.pop()?;
        self.completions[token.sequence].push(&token);
        Some(Ok(token))
    }
}
