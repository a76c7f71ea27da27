//! Sequences that join and leave while passes go on.

use std::ops::Range;

use leveret_models::Backend;

use crate::cache::Cache;
use crate::constraint::Constraint;
use crate::engine::{Engine, Group, Request, Rows};
use crate::error::{Error, Result};
use crate::generate::Token;
use crate::generation_config::GenerationConfig;
use crate::options::GenerateOptions;
use crate::sequence::{Sequence, next_of_all};
use crate::stats::PassStats;
use crate::tokenizer::Tokenizer;

/// A batch that sequences join and leave at any time: each pass brings the weights once for all of them.
///
/// New prompts are read in the same pass in which others get their next token. Made by
/// [`Model::batch`](crate::Model::batch), with room for a number of sequences of a number of positions each.
pub struct Batch<'a, B: Backend> {
    engine: &'a mut Engine<B>,
    tokenizer: Option<&'a Tokenizer>,
    config: &'a GenerationConfig,
    max_sequences: usize,
    context: usize,
    /// Where possible all that have been through a pass are in the first.
    runs: Vec<Run<'a, B>>,
    /// Sequences that have ever joined.
    count: usize,
    failures: Vec<(usize, Error)>,
}

/// Sequences that share a cache.
struct Run<'a, B: Backend> {
    cache: Cache<B>,
    members: Vec<Member<'a>>,
    /// Whether it has been through a pass.
    begun: bool,
}

struct Member<'a> {
    id: usize,
    sequence: Sequence<'a>,
    /// Its row of the cache; those that begin with the same prompt have the same until the first pass is done.
    row: usize,
    /// What the next pass reads.
    input: Vec<u32>,
    /// Positions that it takes at most.
    end: usize,
    gone: bool,
}

impl<'a, B: Backend> Batch<'a, B> {
    pub(crate) fn new(
        engine: &'a mut Engine<B>,
        tokenizer: Option<&'a Tokenizer>,
        config: &'a GenerationConfig,
        (max_sequences, context): (usize, usize),
    ) -> Result<Self> {
        let batch = max_sequences.max(1);
        // As many positions as one prompt can have, and a token of every sequence.
        let seq = context.div_ceil(batch) + 1;
        let request = Request { joins: true, ..Request::new(batch, seq.min(context), context, Rows::Last) };
        engine.make_room(request)?;
        Ok(Self {
            engine,
            tokenizer,
            config,
            max_sequences: batch,
            context,
            runs: Vec::new(),
            count: 0,
            failures: Vec::new(),
        })
    }

    /// Lets a sequence join that goes on from `prompt`; gives the number by which its tokens name it.
    pub fn join(&mut self, prompt: Vec<u32>, options: &GenerateOptions) -> Result<usize> {
        Ok(self.join_several(prompt, options, vec![None])?.start)
    }

    /// The same of several sequences, one for each constraint; their prompt is read once, their seeds follow each other.
    pub fn join_several(
        &mut self,
        prompt: Vec<u32>,
        options: &GenerateOptions,
        constraints: Vec<Option<Box<dyn Constraint>>>,
    ) -> Result<Range<usize>> {
        let (wanted, room) = (constraints.len(), self.room());
        if wanted > room {
            return Err(Error::NoRoom { wanted, room });
        }
        let max_tokens = self.config.max_tokens(options, prompt.len(), self.context)?;
        let seed: u64 = options.seed.unwrap_or_else(rand::random);
        let end = prompt.len() + max_tokens;
        let first = self.count;
        let member = |(i, constraint): (usize, _)| {
            let seed = seed.wrapping_add(i as u64);
            let mut sequence = Sequence::new(&prompt, (max_tokens, seed), self.tokenizer, self.config, options)?;
            if let Some(constraint) = constraint {
                sequence.constrain(constraint, &[])?;
            }
            let gone = sequence.is_finished();
            Ok(Member { id: first + i, sequence, row: 0, input: prompt.clone(), end, gone })
        };
        let members = constraints.into_iter().enumerate().map(member).collect::<Result<Vec<_>>>()?;
        self.engine.check_tokens(&prompt)?;
        self.count += members.len();
        let cache = Cache::new(self.engine.decoder(), 1, end);
        self.runs.push(Run { cache, members, begun: false });
        Ok(first..self.count)
    }

    /// Lets a sequence leave before its end.
    pub fn leave(&mut self, id: usize) {
        let members = self.runs.iter_mut().flat_map(|run| &mut run.members);
        members.filter(|member| member.id == id).for_each(|member| member.gone = true);
    }

    /// Lets all leave.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Sequences that go on.
    pub fn len(&self) -> usize {
        self.runs.iter().flat_map(|run| &run.members).filter(|member| !member.gone).count()
    }

    /// Whether none goes on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more may join.
    pub fn room(&self) -> usize {
        self.max_sequences.saturating_sub(self.len())
    }

    /// The sequences that ended in an error of their own since this was last asked, such as of a constraint.
    pub fn take_failures(&mut self) -> Vec<(usize, Error)> {
        std::mem::take(&mut self.failures)
    }

    /// Runs one pass; gives the tokens that came of it, and what it did.
    ///
    /// After an error no sequence goes on.
    pub fn step(&mut self) -> Result<(Vec<Token>, PassStats)> {
        let (fixed, runs) = (self.engine.fixed_up_to(), std::mem::take(&mut self.runs));
        self.runs = self.engine.entered(|_| arranged(runs, fixed));
        let result = self.pass();
        if result.is_err() {
            self.clear();
        }
        result
    }

    fn pass(&mut self) -> Result<(Vec<Token>, PassStats)> {
        let mut room = self.context;
        let mut inputs = Vec::new();
        for run in &self.runs {
            let input: Vec<_> = match run.begun {
                true => run.members.iter().map(|member| member.input.clone()).collect(),
                false => run.members.iter().take(1).map(|member| member.input.clone()).collect(),
            };
            // Of new prompts as many as there was planned for.
            let new = if run.begun { 0 } else { input[0].len() };
            inputs.push((new <= room).then_some(input));
            room = room.saturating_sub(new);
        }
        let runs = self.runs.iter_mut().zip(&inputs);
        let mut groups: Vec<_> =
            runs.filter_map(|(run, input)| Some(Group::new(input.as_ref()?, &mut run.cache, Rows::Last))).collect();
        if groups.is_empty() {
            return Ok((Vec::new(), PassStats::default()));
        }
        let (logits, stats) = self.engine.forward_all(&mut groups)?;
        drop(groups);
        let mut tokens = Vec::new();
        let ran = self.runs.iter_mut().zip(&inputs).filter(|(_, input)| input.is_some());
        for ((run, _), logits) in ran.zip(&logits) {
            run.begun = true;
            let rows: Vec<_> = logits.rows().collect();
            let turns = run.members.iter_mut().map(|member| (&mut member.sequence, rows[member.row])).collect();
            let all = next_of_all(turns);
            for (member, next) in run.members.iter_mut().zip(all) {
                let next = match next {
                    Ok(next) => next,
                    Err(error) => {
                        member.gone = true;
                        self.failures.push((member.id, error));
                        continue;
                    }
                };
                member.input = next.iter().map(|next| next.id).collect();
                member.gone = member.sequence.is_finished();
                tokens.extend(next.into_iter().map(|next| Token::new(member.id, next)));
            }
        }
        Ok((tokens, stats))
    }
}

/// Drops those that are gone, and puts together all that can be computed together: those that take one token, and are
/// computed the same whatever stands beside them, up to a length if there is one.
fn arranged<'a, B: Backend>(runs: Vec<Run<'a, B>>, fixed: Option<usize>) -> Vec<Run<'a, B>> {
    let together = |member: &Member<'_>| member.input.len() == 1 && fixed.is_none_or(|fixed| member.end <= fixed);
    let (mut shared, mut alone) = (Vec::new(), Vec::new());
    for mut run in runs {
        let single = run.members.len() == 1;
        run.members.retain(|member| !member.gone);
        if run.members.is_empty() {
            continue;
        }
        if !run.begun || (single && !together(&run.members[0])) {
            alone.push(run);
            continue;
        }
        let (joining, apart): (Vec<_>, Vec<_>) = run.members.into_iter().partition(&together);
        alone.extend(apart.into_iter().map(|member| Run::joined(vec![(run.cache.clone(), vec![member])])));
        if !joining.is_empty() {
            shared.push((run.cache, joining));
        }
    }
    let shared = (!shared.is_empty()).then(|| Run::joined(shared));
    shared.into_iter().chain(alone).collect()
}

impl<'a, B: Backend> Run<'a, B> {
    /// Members of several caches in one.
    fn joined(mut parts: Vec<(Cache<B>, Vec<Member<'a>>)>) -> Self {
        let members = || parts.iter().flat_map(|(_, members)| members);
        let reserve = members().map(|member| member.end).max().unwrap_or(0);
        let rows = |members: &[Member<'_>]| members.iter().map(|member| member.row).collect::<Vec<_>>();
        if let [(cache, members)] = parts.as_slice()
            && cache.holds(&rows(members), reserve)
        {
            let (cache, members) = parts.remove(0);
            return Self { cache, members, begun: true };
        }
        let (caches, members): (Vec<_>, Vec<_>) =
            parts.into_iter().map(|(cache, members)| ((cache, rows(&members)), members)).unzip();
        let mut members: Vec<_> = members.into_iter().flatten().collect();
        members.iter_mut().enumerate().for_each(|(row, member)| member.row = row);
        Self { cache: Cache::joined(caches, reserve), members, begun: true }
    }
}
