//! Compares a model with another implementation's answers.

use std::collections::HashMap;
use std::path::Path;

use leveret_models::Backend;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::error::{AtPath, Error, Result};
use crate::model::Model;
use crate::options::GenerateOptions;

/// How far a model's answers are from the reference's.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The logits of every position of the prompt, in one pass.
    pub prompt: Verdict,
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
        let logits = self.logits(&prompt.concat(), &[])?;
        Ok(Report {
            prompt: Verdict::new(&logits, reference.floats("logits")?),
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
            logits: Verdict::new(&logits, reference.floats(&format!("{name}_logits"))?),
        }))
    }
}

impl Verdict {
    fn new(got: &[Vec<f32>], want: &[f32]) -> Self {
        let width = want.len() / got.len().max(1);
        if width * got.len() != want.len() {
            return Self { max_abs_diff: f32::INFINITY, min_cosine: -1.0, same_argmax: 0.0 };
        }
        let argmax = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        let mut verdict = Self { max_abs_diff: 0.0, min_cosine: 1.0, same_argmax: 0.0 };
        for (got, want) in got.iter().zip(want.chunks(width.max(1))) {
            if got.len() != want.len() {
                return Self { max_abs_diff: f32::INFINITY, min_cosine: -1.0, same_argmax: 0.0 };
            }
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(got, want) / (dot(got, got) * dot(want, want)).sqrt();
            // Whatever is not a number is as far away as can be.
            let distance =
                |(a, b): (&f32, &f32)| Some((a - b).abs()).filter(|d| d.is_finite()).unwrap_or(f32::INFINITY);
            let difference = got.iter().zip(want).map(distance).fold(0.0, f32::max);
            verdict.max_abs_diff = verdict.max_abs_diff.max(difference);
            verdict.min_cosine = verdict.min_cosine.min(cosine as f32);
            verdict.same_argmax += f32::from(u8::from(argmax(got) == argmax(want)));
        }
        verdict.same_argmax /= got.len().max(1) as f32;
        verdict
    }
}

/// The tensors of a reference file, in this program's own types.
struct Reference<'a> {
    path: &'a Path,
    ints: HashMap<String, Ints>,
    floats: HashMap<String, Vec<f32>>,
}

/// Ids or a mask, `[columns]` or `[rows, columns]`.
struct Ints {
    columns: usize,
    values: Vec<i64>,
}

impl Ints {
    fn rows(&self) -> impl Iterator<Item = &[i64]> {
        self.values.chunks(self.columns.max(1))
    }
}

impl<'a> Reference<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let bytes = std::fs::read(path).at(path)?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::Header { path: path.to_owned(), reason: error.to_string() })?;
        let (mut ints, mut floats) = (HashMap::new(), HashMap::new());
        for (name, tensor) in file.iter() {
            let data = tensor.data();
            match tensor.dtype() {
                Dtype::I64 => {
                    let values = data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
                    ints.insert(name.to_owned(), Ints { columns: *tensor.shape().last().unwrap_or(&1), values });
                }
                Dtype::F32 => {
                    let values = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    floats.insert(name.to_owned(), values.collect());
                }
                _ => {}
            }
        }
        Ok(Self { path, ints, floats })
    }

    fn missing(&self, tensor: &str) -> Error {
        let hint = "expected I64 ids and F32 logits, as tests/fixtures/make.py writes them".to_owned();
        Error::MissingTensor { path: self.path.to_owned(), tensor: tensor.to_owned(), hint }
    }

    fn floats(&self, name: &str) -> Result<&[f32]> {
        self.floats.get(name).map(Vec::as_slice).ok_or_else(|| self.missing(name))
    }

    /// A tensor of ids, row by row, if it is there.
    fn rows(&self, name: &str) -> Result<Option<Vec<Vec<u32>>>> {
        let Some(ids) = self.ints.get(name) else { return Ok(None) };
        let id = |id: &i64| u32::try_from(*id).map_err(|_| self.missing(name));
        ids.rows().map(|row| row.iter().map(id).collect()).collect::<Result<_>>().map(Some)
    }

    /// The rows of `name`, without the places that the mask leaves out.
    fn masked(&self, name: &str, mask: &str) -> Result<Option<Vec<Vec<u32>>>> {
        let Some(ids) = self.ints.get(name) else { return Ok(None) };
        let mask = self.ints.get(mask).ok_or_else(|| self.missing(mask))?;
        let id = |(id, _): (&i64, &i64)| u32::try_from(*id).map_err(|_| self.missing(name));
        let row =
            |(ids, mask): (&[i64], &[i64])| ids.iter().zip(mask).filter(|(_, seen)| **seen == 1).map(id).collect();
        ids.rows().zip(mask.rows()).map(row).collect::<Result<_>>().map(Some)
    }
}
