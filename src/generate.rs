//! The token loop: prefill, decode, stop rules, a stream of tokens.

use std::time::Instant;

use leveret_models::Backend;
use serde::Serialize;

use crate::cache::Cache;
use crate::engine::{Engine, Request, Rows};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::options::GenerateOptions;
use crate::sampler::Sampler;
use crate::stats::{PassStats, Stats};
use crate::stop::StopStrings;
use crate::tokenizer::{Detokenizer, Tokenizer};

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
        if tokenizer.is_none() && !options.stop.is_empty() {
            let found = options.stop.join(", ");
            return Err(Error::Sampling { option: "stop", found, expected: "none, since there is no tokenizer" });
        }
        if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::EmptyPrompt);
        }
        let prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let max_positions = engine.dims().max_positions;
        let max_tokens = config.max_tokens(options, prompt, max_positions)?;
        let seed = options.seed.unwrap_or_else(rand::random);
        let sequence = |prompt: &Vec<u32>| {
            Ok(Sequence {
                sampler: Sampler::new(sampling, seed, prompt),
                text: tokenizer.map(|tokenizer| tokenizer.detokenizer(prompt)).transpose()?,
                stop: StopStrings::new(&options.stop),
                eos: if options.ignore_eos { Vec::new() } else { config.eos_token_id.0.clone() },
                generated: 0,
                finished: false,
            })
        };
        let sequences = prompts.iter().map(sequence).collect::<Result<_>>()?;
        let (batch, columns) = (prompts.len(), prompt + max_tokens);
        let cache = engine.begin(Request::new(batch, prompt, columns, Rows::Last))?;
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
        let (logits, mut pass) = self.engine.forward(&self.input, &mut self.cache, Rows::Last)?;
        let started = Instant::now();
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
