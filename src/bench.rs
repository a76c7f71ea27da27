//! How fast a model runs, and how near that is to what the machine can do.

use std::time::Instant;

use leveret_models::Backend;
use serde::Serialize;

use crate::error::Result;
use crate::memory::peak_memory;
use crate::model::Model;
use crate::options::GenerateOptions;
use crate::plan::{Plan, Rates};
use crate::stats::PassStats;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BenchOptions {
    /// Tokens of the prompt; 512 of them, or as many as the model has positions for.
    pub prompt_tokens: Option<usize>,
    /// Tokens to generate, one a pass.
    pub max_tokens: usize,
    /// Generations to measure, after one that warms up.
    pub runs: usize,
    /// Sequences that are generated at once.
    pub batch: usize,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { prompt_tokens: None, max_tokens: 16, runs: 3, batch: 1 }
    }
}

/// What was measured; all numbers of several passes are medians.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Bench {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens that were generated in each run.
    pub max_tokens: usize,
    /// Runs that were measured.
    pub runs: usize,
    /// Sequences that were generated at once.
    pub batch: usize,
    /// How the model ran.
    pub plan: Plan,
    /// What the machine could do just before.
    pub limits: Rates,
    /// Time to first token of the first generation, in seconds: weights are read, and kernels compiled that measuring
    /// the limits did not need.
    pub first_ttft: f64,
    /// Time to first token afterwards, in seconds.
    pub ttft: f64,
    /// The passes over the prompt.
    pub prefill: Pace,
    /// The passes over one token each.
    pub decode: Pace,
    /// The most memory that the process has had so far, in bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The most that devices with memory of their own have taken of it, in bytes, where they tell.
    pub peak_device_bytes: Option<u64>,
    /// The tokens of the last run; with a batch those of its first sequence.
    pub tokens: Vec<u32>,
}

/// How fast some passes were.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct Pace {
    /// Seconds of a pass.
    pub seconds: f64,
    /// Seconds of it in which the computation stood still for weights that were being read.
    pub wait_read_seconds: f64,
    /// Seconds in which it stood still for weights that were being uploaded.
    pub wait_upload_seconds: f64,
    /// Seconds for making tensors of a unit's bytes.
    pub convert_seconds: f64,
    /// Seconds for computing, told apart from waiting where the model was loaded with `profile`.
    pub compute_seconds: f64,
    /// Seconds for choosing tokens.
    pub sample_seconds: f64,
    /// Positions computed in a second.
    pub tokens_per_second: f64,
    /// Bytes of weights read from files in a pass.
    pub read_bytes: u64,
    /// Bytes of weights copied to devices in a pass.
    pub upload_bytes: u64,
    /// Bytes read in a second of the pass.
    pub read_rate: f64,
    /// Bytes uploaded in a second of the pass.
    pub upload_rate: f64,
    /// Rate of reading as a fraction of the limit.
    pub read_of_limit: f64,
    /// Rate of uploading as a fraction of the limit: that of all links together.
    pub upload_of_limit: f64,
}

impl Pace {
    fn new(passes: &[PassStats], limits: &Rates) -> Self {
        let median = |of: &dyn Fn(&PassStats) -> f64| median(passes.iter().map(of).collect());
        let seconds = median(&|pass| pass.seconds);
        let [read_bytes, upload_bytes] =
            [median(&|pass| pass.read_bytes as f64), median(&|pass| pass.upload_bytes as f64)];
        let rate = |bytes: f64| if seconds > 0.0 { bytes / seconds } else { 0.0 };
        let of = |rate: f64, limit: f64| if limit > 0.0 { rate / limit } else { 0.0 };
        let links: f64 = limits.devices.iter().filter_map(|device| device.upload).sum();
        Self {
            seconds,
            wait_read_seconds: median(&|pass| pass.wait_read_seconds),
            wait_upload_seconds: median(&|pass| pass.wait_upload_seconds),
            convert_seconds: median(&|pass| pass.convert_seconds),
            compute_seconds: median(&|pass| pass.compute_seconds),
            sample_seconds: median(&|pass| pass.sample_seconds),
            tokens_per_second: rate(median(&|pass| pass.tokens as f64)),
            read_bytes: read_bytes as u64,
            upload_bytes: upload_bytes as u64,
            read_rate: rate(read_bytes),
            upload_rate: rate(upload_bytes),
            read_of_limit: of(rate(read_bytes), limits.read),
            upload_of_limit: of(rate(upload_bytes), links),
        }
    }
}

impl<B: Backend> Model<B> {
    /// Measures the machine's limits and then generations, the first of which does not count.
    pub fn bench(&mut self, options: &BenchOptions) -> Result<Bench> {
        let BenchOptions { max_tokens, runs, batch, .. } = *options;
        let room = self.dims().max_positions.saturating_sub(max_tokens).max(1);
        let prompt_tokens = options.prompt_tokens.unwrap_or(room.min(512));
        let limits = self.measure()?;
        let plan = self.plan(batch, prompt_tokens, max_tokens)?;
        let vocab_size = self.dims().vocab_size as u32;
        let prompt: Vec<u32> = (0..prompt_tokens as u32).map(|i| (7 + 13 * i) % vocab_size).collect();
        let generate = GenerateOptions {
            max_tokens: Some(max_tokens),
            temperature: Some(0.0),
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let (mut ttft, mut prefill, mut decode) = (Vec::new(), Vec::new(), Vec::new());
        let started = Instant::now();
        let prompts = || std::iter::repeat_n(prompt.clone(), batch);
        let mut stream = self.stream_batch(prompts(), &generate)?;
        stream.next().transpose()?;
        let first_ttft = started.elapsed().as_secs_f64();
        let (_, mut last) = stream.finish()?;
        let mut tokens = Vec::new();
        for _ in 0..runs {
            let (mut completions, stats) = self.generate_batch(prompts(), &generate)?;
            ttft.push(stats.ttft);
            prefill.push(stats.prefill);
            decode.extend(&stats.decode);
            (tokens, last) = (completions.swap_remove(0).tokens, stats);
        }
        Ok(Bench {
            prompt_tokens,
            max_tokens,
            runs,
            batch,
            plan,
            first_ttft,
            ttft: median(ttft),
            prefill: Pace::new(&prefill, &limits),
            decode: Pace::new(&decode, &limits),
            limits,
            peak_memory: peak_memory(),
            peak_device_bytes: last.peak_device_bytes,
            tokens,
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
