use std::path::Path;

use leveret_models::Backend;
use serde::Serialize;

use super::odds::{Odds, divergence, perplexity};
use super::reference::Reference;
use crate::error::Result;
use crate::model::Model;
use crate::options::GenerateOptions;

/// How far a model's answers are from the reference's.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The logits of every position of the prompt, in one pass.
    pub prompt: Verdict,
    /// The model's perplexity over the prompt, if that has more than one token.
    pub perplexity: Option<f64>,
    /// The reference's.
    pub reference_perplexity: Option<f64>,
    /// The reply to the prompt, if the reference has one.
    pub greedy: Option<Reply>,
    /// The replies to a batch of prompts of different lengths, if the reference has them.
    pub batch: Option<Reply>,
}

/// How far replies that are decoded over the KV cache are from the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Reply {
    /// Whether the likeliest token, always taken, gives the same replies.
    pub same_tokens: bool,
    /// The logits of every token of the reference's replies.
    pub logits: Verdict,
}

/// The distance of logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Largest difference of two logits.
    pub max_abs_diff: f32,
    /// Smallest cosine of two positions' logits.
    pub min_cosine: f32,
    /// Positions whose likeliest token is the same, as a fraction.
    pub same_argmax: f32,
    /// Mean of the Kullback-Leibler divergence from the reference's distributions of the next token to the model's.
    pub mean_kl: f64,
}

impl Report {
    /// Whether all tokens agree and no logit differs by more than `tolerance`.
    pub fn agrees(&self, tolerance: f32) -> bool {
        let near = |verdict: &Verdict| verdict.max_abs_diff <= tolerance;
        let same = |reply: &Reply| reply.same_tokens && near(&reply.logits);
        near(&self.prompt) && [&self.greedy, &self.batch].into_iter().flatten().all(same)
    }
}

impl<B: Backend> Model<B> {
    /// Compares with a safetensors file of reference answers: `prompt [n]` with `logits [n, vocab_size]`; where present
    /// also `greedy [m]` with `greedy_logits [m, vocab_size]`, and for a left-padded batch `batch [b, n]`,
    /// `batch_mask [b, n]`, `batch_greedy [b, m]` and `batch_greedy_logits [b, m, vocab_size]`.
    ///
    /// `tests/fixtures/make.py` writes such files with transformers.
    pub fn verify(&mut self, reference: &Path) -> Result<Report> {
        let reference = Reference::read(reference)?;
        let prompt = reference.rows("prompt")?.ok_or_else(|| reference.missing("prompt"))?;
        if prompt.len() != 1 {
            return Err(reference.missing("prompt of one sequence"));
        }
        let tokens = prompt.concat();
        let vocab_size = self.dims().vocab_size;
        let expected = reference.logits("logits", tokens.len(), vocab_size)?;
        let logits = self.logits(&tokens, &[])?;
        let rows: Vec<_> = expected.chunks(vocab_size).collect();
        Ok(Report {
            prompt: Verdict::new(&logits, &rows),
            perplexity: perplexity(&tokens, logits.iter().map(Vec::as_slice)),
            reference_perplexity: perplexity(&tokens, rows),
            batch: match reference.masked("batch", "batch_mask")? {
                Some(prompts) => self.reply(prompts, &reference, "batch_greedy")?,
                None => None,
            },
            greedy: self.reply(prompt, &reference, "greedy")?,
        })
    }

    fn reply(&mut self, prompts: Vec<Vec<u32>>, reference: &Reference, name: &str) -> Result<Option<Reply>> {
        let Some(replies) = reference.rows(name)? else { return Ok(None) };
        if replies.len() != prompts.len() || replies.iter().any(Vec::is_empty) {
            return Err(reference.missing(&format!("{name} with a reply for each of {} prompts", prompts.len())));
        }
        let vocab_size = self.dims().vocab_size;
        let count = replies.iter().map(Vec::len).sum();
        let expected = reference.logits(&format!("{name}_logits"), count, vocab_size)?;
        let logits = self.forced_logits(prompts.clone(), &replies)?;
        let options = GenerateOptions {
            max_tokens: replies.first().map(Vec::len),
            temperature: Some(0.0),
            repetition_penalty: Some(1.0),
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let (completions, _) = self.generate_batch(prompts, &options)?;
        Ok(Some(Reply {
            same_tokens: completions.iter().map(|completion| &completion.tokens).eq(&replies),
            logits: Verdict::new(&logits, &expected.chunks(vocab_size).collect::<Vec<_>>()),
        }))
    }
}

impl Verdict {
    /// Of as many positions on both sides.
    fn new(got: &[Vec<f32>], want: &[&[f32]]) -> Self {
        let mut verdict = Self { max_abs_diff: 0.0, min_cosine: 1.0, same_argmax: 0.0, mean_kl: 0.0 };
        let count = got.len().max(1);
        for (got, want) in got.iter().zip(want) {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(got, want) / (dot(got, got) * dot(want, want)).sqrt();
            // Whatever is not a number is as far away as can be.
            let distance =
                |(a, b): (&f32, &f32)| Some((a - b).abs()).filter(|d| d.is_finite()).unwrap_or(f32::INFINITY);
            let difference = got.iter().zip(*want).map(distance).fold(0.0, f32::max);
            let (want, got) = (Odds::new(want), Odds::new(got));
            verdict.max_abs_diff = verdict.max_abs_diff.max(difference);
            verdict.min_cosine = verdict.min_cosine.min(cosine as f32);
            verdict.same_argmax += f32::from(u8::from(got.likeliest() == want.likeliest()));
            verdict.mean_kl += divergence(&want, &got) / count as f64;
        }
        verdict.same_argmax /= count as f32;
        verdict
    }
}
