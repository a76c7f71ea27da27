//! The token loop: prefill, decode, stop rules, a stream of tokens.

use std::time::Instant;

use leveret_models::Backend;
use serde::Serialize;

use crate::cache::Cache;
use crate::engine::{Engine, Rows};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::sampler::{Sampler, Sampling};
use crate::stats::{PassStats, Stats};
use crate::stop::StopStrings;
use crate::tokenizer::{Detokenizer, Tokenizer};

/// What to generate; a field that is `None` is taken from the checkpoint's `generation_config.json`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "Sampling says what these mean")]
pub struct GenerateOptions {
    /// Tokens to generate at most; by default as many as the model has positions for.
    pub max_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    /// Makes sampling repeatable; the sequences of a batch all start from it.
    pub seed: Option<u64>,
    /// Texts that end the reply and are not part of it.
    pub stop: Vec<String>,
    /// Goes on past end-of-sequence tokens.
    pub ignore_eos: bool,
}

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
    /// Set on the last token of a sequence.
    pub finish_reason: Option<FinishReason>,
}

/// A finished sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Completion {
    /// The reply, without the prompt.
    pub text: String,
    /// Its ids, the end-of-sequence token included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// A running generation: an iterator over tokens, in each pass one of every sequence that goes on.
pub struct Generation<'a, B: Backend> {
    engine: &'a mut Engine<B>,
    cache: Cache<B>,
    sequences: Vec<Sequence<'a>>,
    /// What the next pass reads.
    input: Vec<Vec<u32>>,
    /// Tokens of the last pass that are not yet given out, last first.
    ready: Vec<Token>,
    max_tokens: usize,
    stats: Stats,
    started: Instant,
    failed: bool,
}

/// One sequence of a batch.
struct Sequence<'a> {
    sampler: Sampler,
    text: Option<Detokenizer<'a>>,
    stop: StopStrings,
    eos: Vec<u32>,
    generated: usize,
    finished: bool,
}

impl<'a, B: Backend> Generation<'a, B> {
    pub(crate) fn new(
        engine: &'a mut Engine<B>,
        tokenizer: Option<&'a Tokenizer>,
        config: &GenerationConfig,
        prompts: Vec<Vec<u32>>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sampling = config.sampling(options);
        sampling.check()?;
        if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::EmptyPrompt);
        }
        let prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let max_positions = engine.dims().max_positions;
        let max_tokens = config.max_tokens(options, prompt, max_positions)?;
        let seed = options.seed.unwrap_or_else(rand::random);
        let sequence = |prompt: &Vec<u32>| Sequence {
            sampler: Sampler::new(sampling, seed, prompt),
            text: tokenizer.map(Tokenizer::detokenizer),
            stop: StopStrings::new(&options.stop),
            eos: if options.ignore_eos { Vec::new() } else { config.eos_token_id.clone() },
            generated: 0,
            finished: false,
        };
        let sequences = prompts.iter().map(sequence).collect();
        // A reply without a set end gets room as it grows.
        let reserve = prompt + max_tokens.min(if options.max_tokens.is_some() { max_tokens } else { AHEAD });
        let cache = engine.cache(prompts.len(), reserve);
        Ok(Self {
            engine,
            cache,
            sequences,
            input: prompts,
            ready: Vec::new(),
            max_tokens,
            stats: Stats::default(),
            started: Instant::now(),
            failed: false,
        })
    }

    /// The numbers so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Runs to the end; one completion for each prompt.
    pub fn finish(mut self) -> Result<(Vec<Completion>, Stats)> {
        let empty = || Completion { text: String::new(), tokens: Vec::new(), finish_reason: FinishReason::Length };
        let mut completions: Vec<_> = self.sequences.iter().map(|_| empty()).collect();
        for token in &mut self {
            let token = token?;
            let completion = &mut completions[token.sequence];
            completion.text.push_str(&token.text);
            completion.tokens.push(token.id);
            completion.finish_reason = token.finish_reason.unwrap_or(FinishReason::Length);
        }
        Ok((completions, self.stats))
    }

    /// One pass, and a token for every sequence that goes on.
    fn step(&mut self) -> Result<()> {
        let (logits, pass) = self.engine.forward(&self.input, &mut self.cache, Rows::Last)?;
        let mut ready = Vec::new();
        for (index, (sequence, logits)) in self.sequences.iter_mut().zip(logits.rows()).enumerate() {
            if sequence.finished {
                continue;
            }
            let id = sequence.sampler.sample(logits);
            self.input[index] = vec![id];
            let (text, finish_reason) = sequence.take(id, self.max_tokens)?;
            ready.push(Token { sequence: index, id, text, finish_reason });
        }
        ready.reverse();
        self.ready = ready;
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
            self.stats.units = plan.resident.len();
            self.stats.resident_units = plan.resident.iter().filter(|resident| **resident).count();
            self.stats.planned_bytes = plan.bytes;
        }
    }
}

/// Positions that room is made for when a reply has no set end.
const AHEAD: usize = 256;

impl<B: Backend> Iterator for Generation<'_, B> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.ready.is_empty() {
            if self.max_tokens == 0 || self.sequences.iter().all(|sequence| sequence.finished) {
                return None;
            }
            if let Err(error) = self.step() {
                self.failed = true;
                return Some(Err(error));
            }
        }
        self.ready.pop().map(Ok)
    }
}

impl Sequence<'_> {
    /// Takes a token in: the text to give out, and why the sequence ends with it if it does.
    fn take(&mut self, id: u32, max_tokens: usize) -> Result<(String, Option<FinishReason>)> {
        self.generated += 1;
        if self.eos.contains(&id) {
            return Ok((self.end()?, Some(FinishReason::Stop)));
        }
        let text = self.text.as_mut().map_or(Ok(String::new()), |text| text.push(id))?;
        let (mut text, stopped) = self.stop.push(&text);
        if stopped {
            self.finished = true;
            return Ok((text, Some(FinishReason::Stop)));
        }
        if self.generated < max_tokens {
            return Ok((text, None));
        }
        text.push_str(&self.end()?);
        Ok((text, Some(FinishReason::Length)))
    }

    /// What is held back at the end: the start of a stop string that never came, an unfinished character.
    fn end(&mut self) -> Result<String> {
        self.finished = true;
        let rest = self.text.as_mut().map_or(Ok(String::new()), Detokenizer::finish)?;
        let (mut text, stopped) = self.stop.push(&rest);
        if !stopped {
            text.push_str(&self.stop.finish());
        }
        Ok(text)
    }
}

impl GenerateOptions {
    /// Whether any option asks for sampling.
    pub(crate) fn samples(&self) -> bool {
        self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some()
    }

    /// These options over `defaults`.
    pub(crate) fn over(&self, defaults: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
        }
    }
}
