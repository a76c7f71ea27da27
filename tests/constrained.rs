//! Replies that a constraint keeps to a form, alone and beside others.

use leveret::{Constraint, Error, FinishReason, GenerateOptions, Result, Token};
use rstest::rstest;

use crate::support::{fixture, greedy, load};

/// Lets tokens follow each other in the order of their numbers; after each, so many have no alternative.
struct Count {
    next: u32,
    forced: u32,
}

impl Count {
    /// A count from 70 on.
    fn by(step: u32) -> Box<dyn Constraint> {
        Box::new(Self { next: 70, forced: step - 1 })
    }
}

impl Constraint for Count {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let others = (0..).zip(logits).filter(|(id, _)| *id != self.next);
        others.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn push(&mut self, id: u32) -> Result<Vec<u32>> {
        if id != self.next {
            return Err(Error::Constraint { reason: format!("{id} instead of {}", self.next) });
        }
        let forced = (id + 1..=id + self.forced).collect();
        self.next += 1 + self.forced;
        Ok(forced)
    }
}

/// Forced tokens take no pass of their own, and leave others as they are.
#[rstest]
fn forced_tokens_come_without_a_pass(#[values("llama", "mistral")] name: &str) {
    let mut model = load(&fixture(name));
    let want = model.generate(vec![9u32, 8, 7], &greedy(6)).unwrap().0.tokens;
    let mut batch = model.batch(2, 64).unwrap();
    batch.join_several(vec![5], &greedy(12), vec![Some(Count::by(5))]).unwrap();
    batch.join(vec![9, 8, 7], &greedy(6)).unwrap();
    let mut tokens: Vec<Token> = Vec::new();
    for _ in 0..3 {
        tokens.extend(batch.step().unwrap().0);
    }
    let of = |id| tokens.iter().filter(move |token| token.sequence == id);
    assert_eq!(of(0).map(|token| token.id).collect::<Vec<_>>(), Vec::from_iter(70..82));
    assert_eq!(of(0).next_back().unwrap().finish_reason, Some(FinishReason::Length));
    assert_eq!(of(1).map(|token| token.id).collect::<Vec<_>>(), want[..3]);
    while !batch.is_empty() {
        tokens.extend(batch.step().unwrap().0);
    }
    assert_eq!(tokens.iter().filter(|token| token.sequence == 1).map(|token| token.id).collect::<Vec<_>>(), want);
}

/// What is free of constraints goes on as if alone, up to the last position that there is room for.
#[rstest]
fn forced_tokens_leave_the_rest_of_a_batch_as_it_is(
    #[values("llama", "mistral", "qwen3_sliding", "qwen3_5", "lfm2", "mamba2", "kimi_linear")] name: &str,
    #[values(1, 3, 5)] step: u32,
) {
    let mut model = load(&fixture(name));
    let prompts: Vec<Vec<u32>> = vec![vec![5], (1..14).collect(), vec![9, 8, 7], vec![40, 41]];
    let generation = model.stream_batch(prompts.clone(), &greedy(12)).unwrap();
    let generation = generation.constrained(0, Count::by(step)).unwrap().constrained(2, Count::by(2)).unwrap();
    let (batch, _) = generation.finish().unwrap();
    assert_eq!(batch[0].tokens, Vec::from_iter(70..82));
    assert_eq!(batch[2].tokens, Vec::from_iter(70..82));
    for row in [1, 3] {
        assert_eq!(model.generate(prompts[row].clone(), &greedy(12)).unwrap().0, batch[row]);
    }
}

/// A constraint that leaves a choice sees the same logits as alone.
#[rstest]
fn a_constrained_row_is_computed_as_if_alone(#[values("mistral", "qwen3_5")] name: &str) {
    /// Allows all, and wants two certain tokens after each.
    struct Refrain;
    impl Constraint for Refrain {
        fn mask(&mut self, _: &mut [f32]) -> Result<()> {
            Ok(())
        }

        fn push(&mut self, _: u32) -> Result<Vec<u32>> {
            Ok(vec![30, 31])
        }
    }
    let mut model = load(&fixture(name));
    let prompts: Vec<Vec<u32>> = vec![vec![5, 6], (1..9).collect()];
    let alone = model.stream(prompts[0].clone(), &greedy(18)).unwrap();
    let want = alone.constrained(0, Box::new(Refrain)).unwrap().finish().unwrap().0;
    let together = model.stream_batch(prompts, &greedy(18)).unwrap();
    assert_eq!(together.constrained(0, Box::new(Refrain)).unwrap().finish().unwrap().0[0], want[0]);
}

/// A reply that goes on in a session goes on in its grammar too.
#[rstest]
fn a_resumed_reply_goes_on_in_its_grammar(#[values(1, 3)] step: u32, #[values(1, 4, 7)] said: usize) {
    let mut model = load(&fixture("llama"));
    let options = GenerateOptions { temperature: Some(1.0), seed: Some(1), ..greedy(12) };
    let mut session = model.session(64).unwrap();
    let reply = model.stream_in(&mut session, vec![5u32, 6], &options).unwrap();
    let mut reply = reply.constrained(0, Count::by(step)).unwrap();
    (0..said).for_each(|_| drop(reply.next().unwrap().unwrap()));
    drop(reply);
    let reply = model.stream_in(&mut session, vec![5u32, 6], &options).unwrap();
    let (replies, _) = reply.constrained(0, Count::by(step)).unwrap().finish().unwrap();
    assert_eq!(replies[0].tokens, Vec::from_iter(70..82));
}
