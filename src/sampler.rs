//! Logits → token.

mod ranked;

use std::borrow::Cow;
use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::ranked::{Candidate, Ranked, likelier};
use crate::error::{Error, Result};
use crate::sequence::Logprobs;

/// How a token is drawn from logits.
///
/// Applied in the order of the fields' use in transformers: penalties, temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens whose probabilities reach this sum.
    pub top_p: f32,
    /// Keeps tokens at least this likely, as a fraction of the likeliest.
    pub min_p: f32,
    /// Divides positive logits of tokens seen in prompt and reply, multiplies negative ones (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// Subtracted from logits of tokens in the reply.
    pub presence_penalty: f32,
    /// Subtracted for each time that a token is in the reply.
    pub frequency_penalty: f32,
}

impl Default for Sampling {
    /// The likeliest token, always.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
        }
    }
}

impl Sampling {
    /// Refuses numbers outside their ranges.
    pub fn check(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, (0.0..=f32::MAX).contains(&self.temperature), "a number from 0 on"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "more than 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                (0.01..=100.0).contains(&self.repetition_penalty),
                "from 0.01 to 100",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                (-100.0..=100.0).contains(&self.presence_penalty),
                "from -100 to 100",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                (-100.0..=100.0).contains(&self.frequency_penalty),
                "from -100 to 100",
            ),
        ];
        match checks.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((option, found, _, expected)) => Err(Error::Sampling { option, found: found.to_string(), expected }),
            None => Ok(()),
        }
    }
}

/// Draws the tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    rng: StdRng,
    /// Numbers that have been drawn.
    drawn: u64,
    /// Tokens seen so far, and how often in the reply.
    seen: HashMap<u32, u32>,
    /// What is added to the logits of tokens.
    bias: Vec<(u32, f32)>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, seed: u64, prompt: &[u32]) -> Self {
        let seen = prompt.iter().map(|id| (*id, 0)).collect();
        Self { sampling, rng: StdRng::seed_from_u64(seed), drawn: 0, seen, bias: Vec::new() }
    }

    /// The same, with so much added to the logits of some tokens.
    pub(crate) fn biased(self, bias: &[(u32, f32)]) -> Self {
        Self { bias: bias.to_vec(), ..self }
    }

    /// The next token for finite `logits`, one for each entry of the vocabulary, among those that `mask` leaves where
    /// it is given.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        mask: Option<impl FnOnce(&mut [f32]) -> Result<()>>,
    ) -> Result<u32> {
        let mut logits = Cow::Borrowed(logits);
        if self.penalises() {
            self.penalise(logits.to_mut());
        }
        if let Some(mask) = mask {
            mask(logits.to_mut())?;
        }
        let id = match self.sampling.temperature > 0.0 {
            true => self.draw(&logits),
            false => likeliest(&logits),
        };
        if logits.get(id as usize) == Some(&f32::NEG_INFINITY) {
            return Err(Error::Constraint { reason: "no token may follow".to_owned() });
        }
        self.note(id);
        Ok(id)
    }

    /// Takes note of a token of the reply.
    pub(crate) fn note(&mut self, id: u32) {
        *self.seen.entry(id).or_default() += 1;
    }

    /// How many numbers have been drawn so far.
    pub(crate) fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Goes on where a sampler of the same seed was after so many draws and this reply.
    pub(crate) fn resume(&mut self, drawn: u64, reply: &[u32]) {
        (0..drawn).for_each(|_| _ = self.rng.random::<f32>());
        self.drawn = drawn;
        reply.iter().for_each(|id| self.note(*id));
    }

    fn penalises(&self) -> bool {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.sampling;
        repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0 || !self.bias.is_empty()
    }

    fn penalise(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.sampling;
        for (id, count) in &self.seen {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if *count > 0 {
                *logit -= presence_penalty + frequency_penalty * *count as f32;
            }
            *logit = logit.clamp(f32::MIN, f32::MAX);
        }
        for (id, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let mut ranked = Ranked::new(logits, &self.sampling);
        let (kept, sum) = ranked.kept(&self.sampling);
        self.drawn += 1;
        let mut rest = self.rng.random::<f32>() * sum;
        for place in 0..kept {
            let (id, p) = ranked.get(place);
            rest -= p;
            if rest < 0.0 {
                return id;
            }
        }
        ranked.get(0).0
    }
}

/// How likely token `id` is, and the `top` likeliest.
pub(crate) fn logprobs(logits: &[f32], id: u32, top: usize) -> Logprobs {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let logprob = |logit: f32| (f64::from(logit - max) - total.ln()) as f32;
    let mut likeliest: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
    if (1..likeliest.len()).contains(&top) {
        likeliest.select_nth_unstable_by(top - 1, likelier);
    }
    likeliest.truncate(top);
    likeliest.sort_unstable_by(likelier);
    let top = likeliest.into_iter().map(|(id, logit)| (id, logprob(logit))).collect();
    Logprobs { logprob: logits.get(id as usize).map_or(f32::MIN, |logit| logprob(*logit)), top }
}

/// The first of the greatest, found side by side: there are as many logits as there are tokens.
fn likeliest(logits: &[f32]) -> u32 {
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut greatest = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        greatest.iter_mut().zip(chunk).for_each(|(greatest, logit)| *greatest = greatest.max(*logit));
    }
    let greatest = greatest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|logit| *logit == greatest).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 2.5];

    fn next(sampler: &mut Sampler) -> u32 {
        sampler.sample(&LOGITS, None::<fn(&mut [f32]) -> Result<()>>).unwrap()
    }

    #[test]
    fn temperature_zero_is_the_likeliest_and_a_low_one_nearly_always() {
        let mut greedy = Sampler::new(Sampling::default(), 1, &[]);
        assert_eq!(next(&mut greedy), 1);
        let mut cold = Sampler::new(Sampling { temperature: 0.01, ..Sampling::default() }, 1, &[]);
        assert!((0..100).all(|_| next(&mut cold) == 1));
    }

    #[test]
    fn penalties_turn_to_other_tokens() {
        let mut repetition = Sampler::new(Sampling { repetition_penalty: 2.0, ..Sampling::default() }, 1, &[1]);
        assert_eq!(next(&mut repetition), 4);
        let mut presence = Sampler::new(Sampling { presence_penalty: 1.2, ..Sampling::default() }, 1, &[1]);
        assert_eq!([(); 3].map(|()| next(&mut presence)), [1, 4, 2]);
        let mut frequency = Sampler::new(Sampling { frequency_penalty: 0.3, ..Sampling::default() }, 1, &[]);
        assert_eq!([(); 4].map(|()| next(&mut frequency)), [1, 1, 4, 1]);
    }

    #[test]
    fn a_bias_turns_to_other_tokens() {
        let mut biased = Sampler::new(Sampling::default(), 1, &[]).biased(&[(1, -100.0), (0, 1.6), (9, 5.0)]);
        assert_eq!([next(&mut biased), next(&mut biased)], [0, 0]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let draws = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, ..Sampling::default() }, seed, &[]);
            (0..4000).map(|_| next(&mut sampler)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let share = draws(7).iter().filter(|id| **id == 1).count() as f32 / 4000.0;
        assert!((share - 0.464).abs() < 0.03, "{share}");
    }

    #[test]
    fn a_mask_leaves_nothing_else_and_a_sampler_goes_on_where_it_was() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling, 3, &[]);
        let mask = |logits: &mut [f32]| {
            logits[..4].fill(f32::NEG_INFINITY);
            Ok(())
        };
        assert!((0..50).all(|_| sampler.sample(&LOGITS, Some(mask)).unwrap() == 4));
        let mut other = Sampler::new(sampling, 3, &[]);
        other.resume(sampler.drawn(), &[4; 50]);
        assert!((0..50).all(|_| next(&mut sampler) == next(&mut other)));
    }

    #[test]
    fn logprobs_are_those_of_the_softmax() {
        let told = logprobs(&LOGITS, 2, 2);
        assert_eq!(told.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 4]);
        assert!((told.logprob.exp() - 0.1729).abs() < 1e-3 && (told.top[0].1.exp() - 0.4699).abs() < 1e-3, "{told:?}");
        assert!(logprobs(&LOGITS, 2, 0).top.is_empty());
    }
}
