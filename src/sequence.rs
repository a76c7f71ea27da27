//! One sequence of a batch: from logits to the tokens and the text that it goes on with.

use rayon::prelude::*;

use crate::constraint::Constraint;
use crate::engine::are_many;
use crate::error::{Error, Result};
use crate::generate::FinishReason;
use crate::generation_config::GenerationConfig;
use crate::options::GenerateOptions;
use crate::sampler::{Sampler, logprobs};
use crate::stop::StopStrings;
use crate::tokenizer::{Detokenizer, Tokenizer};

/// How likely a token was, before any option changed that.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The natural logarithm of its probability; 0 where nothing else was possible.
    pub logprob: f32,
    /// The likeliest tokens with theirs, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// A sequence that goes on.
pub(crate) struct Sequence<'a> {
    sampler: Sampler,
    text: Option<Detokenizer<'a>>,
    stop: StopStrings,
    eos: Vec<u32>,
    max_tokens: usize,
    /// How many of the likeliest tokens to tell, if any.
    logprobs: Option<usize>,
    constraint: Option<Box<dyn Constraint>>,
    generated: usize,
    finished: bool,
}

/// A token that a sequence goes on with.
pub(crate) struct Next {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) finish_reason: Option<FinishReason>,
}

impl<'a> Sequence<'a> {
    /// A sequence of `prompt` and at most `max_tokens` more, whose draws start from `seed`.
    pub(crate) fn new(
        prompt: &[u32],
        (max_tokens, seed): (usize, u64),
        tokenizer: Option<&'a Tokenizer>,
        config: &GenerationConfig,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sampling = config.sampling(options);
        sampling.check()?;
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some((_, bias)) = options.logit_bias.iter().find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY) {
            return Err(Error::Sampling {
                option: "logit_bias",
                found: bias.to_string(),
                expected: "numbers, or -inf",
            });
        }
        if tokenizer.is_none() && !options.stop.is_empty() {
            let found = options.stop.join(", ");
            return Err(Error::Sampling { option: "stop", found, expected: "none, since there is no tokenizer" });
        }
        Ok(Self {
            sampler: Sampler::new(sampling, seed, prompt).biased(&options.logit_bias),
            text: tokenizer.map(|tokenizer| tokenizer.detokenizer(prompt)).transpose()?,
            stop: StopStrings::new(&options.stop),
            eos: if options.ignore_eos { Vec::new() } else { config.eos_token_id.0.clone() },
            max_tokens,
            logprobs: options.logprobs,
            constraint: None,
            generated: 0,
            finished: max_tokens == 0,
        })
    }

    /// Goes on with tokens that a constraint allows and no others, after a reply that one like it has allowed.
    pub(crate) fn constrain(&mut self, mut constraint: Box<dyn Constraint>, reply: &[u32]) -> Result<()> {
        let mut forced = Vec::new().into_iter();
        for id in reply {
            match forced.next() {
                None => forced = constraint.push(*id)?.into_iter(),
                Some(expected) if expected == *id => {}
                Some(expected) => {
                    let reason = format!("the reply that goes on has token {id} where {expected} has to be");
                    return Err(Error::Constraint { reason });
                }
            }
        }
        if let Some(expected) = forced.next() {
            let reason = format!("the reply that goes on ends where token {expected} has to be");
            return Err(Error::Constraint { reason });
        }
        self.constraint = Some(constraint);
        Ok(())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// How many numbers its sampler has drawn so far.
    pub(crate) fn drawn(&self) -> u64 {
        self.sampler.drawn()
    }

    /// Goes on where a sequence was after such a reply and so many draws; gives the reply once more, up to its end.
    pub(crate) fn resume(&mut self, drawn: u64, reply: &[u32]) -> Result<Vec<Next>> {
        self.sampler.resume(drawn, reply);
        let mut all = Vec::new();
        for id in reply {
            if self.finished {
                break;
            }
            all.push(self.take(*id, None)?);
        }
        Ok(all)
    }

    /// Chooses a token after `logits`; where a constraint leaves no choice after it, the tokens that must follow too.
    fn next(&mut self, logits: &[f32]) -> Result<Vec<Next>> {
        let mask = self.constraint.as_mut().map(|constraint| |logits: &mut [f32]| constraint.mask(logits));
        let id = self.sampler.sample(logits, mask)?;
        let told = self.logprobs.map(|top| logprobs(logits, id, top));
        let mut all = vec![self.take(id, told)?];
        let forced = match (&mut self.constraint, self.finished) {
            (Some(constraint), false) => constraint.push(id)?,
            _ => Vec::new(),
        };
        for id in forced {
            if self.finished {
                break;
            }
            self.sampler.note(id);
            let certain = self.logprobs.map(|_| Logprobs { logprob: 0.0, top: vec![(id, 0.0)] });
            all.push(self.take(id, certain)?);
        }
        Ok(all)
    }

    fn take(&mut self, id: u32, logprobs: Option<Logprobs>) -> Result<Next> {
        let (text, finish_reason) = self.text_of(id)?;
        Ok(Next { id, text, logprobs, finish_reason })
    }

    /// Takes a token in: the text to give out, and why the sequence ends with it if it does.
    fn text_of(&mut self, id: u32) -> Result<(String, Option<FinishReason>)> {
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
        if self.generated < self.max_tokens {
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

/// What sequences go on with after logits of each; side by side where these are many.
pub(crate) fn next_of_all(turns: Vec<(&mut Sequence<'_>, &[f32])>) -> Vec<Result<Vec<Next>>> {
    let next = |(sequence, logits): (&mut Sequence<'_>, &[f32])| sequence.next(logits);
    match are_many(turns.len(), turns.iter().map(|(_, logits)| logits.len()).sum()) {
        true => turns.into_par_iter().map(next).collect(),
        false => turns.into_iter().map(next).collect(),
    }
}
