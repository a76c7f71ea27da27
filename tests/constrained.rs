//! Replies that a constraint keeps to a form, alone and beside others.

use leveret::{Constraint, Error, FinishReason, GenerateOptions, JsonSchema, Result, Token};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{demo, fixture, greedy, load};

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

/// A constraint that leaves a choice sees the same logits as alone.
#[rstest]
fn a_constrained_row_is_computed_as_if_alone(#[values("mistral", "qwen3_5")] name: &str) {
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

/// A reply cannot go on in a grammar that would not have let it come so far.
#[test]
fn another_grammar_is_refused() {
    let mut model = load(&fixture("llama"));
    let mut session = model.session(64).unwrap();
    let reply = model.stream_in(&mut session, vec![5u32, 6], &greedy(12)).unwrap();
    let mut reply = reply.constrained(0, Count::by(2)).unwrap();
    reply.next().unwrap().unwrap();
    drop(reply);
    let reply = model.stream_in(&mut session, vec![5u32, 6], &greedy(12)).unwrap();
    let error = reply.constrained(0, Box::new(Refrain)).err().unwrap().to_string();
    assert!(error.contains("the reply that goes on has token 71 where 30 has to be"), "{error}");
}

/// Nor one that would have more said than has been.
#[test]
fn a_reply_that_ends_too_soon_for_its_grammar_is_refused() {
    let mut model = load(&fixture("llama"));
    let mut session = model.session(64).unwrap();
    let mut reply =
        model.stream_in(&mut session, vec![5u32, 6], &greedy(12)).unwrap().constrained(0, Count::by(1)).unwrap();
    reply.next().unwrap().unwrap();
    drop(reply);
    let reply = model.stream_in(&mut session, vec![5u32, 6], &greedy(12)).unwrap();
    let error = reply.constrained(0, Box::new(Refrain)).err().unwrap().to_string();
    assert!(error.contains("the reply that goes on ends where token 30 has to be"), "{error}");
}

/// A JSON document begun in a session is ended in it, beside others as alone.
#[rstest]
fn a_document_is_whole(#[values(0, 1, 3, 8)] said: usize) {
    let mut model = load(&demo());
    let schema = json!({
        "type": "object",
        "properties": { "town": { "enum": ["London", "Bombay", "Hong Kong"] }, "days": { "enum": [7, 80] } },
        "required": ["town", "days"],
        "additionalProperties": false
    });
    let grammars = model.grammars().unwrap();
    let constraint = || Box::new(JsonSchema::new(&grammars, &schema).unwrap());
    let options = GenerateOptions { ignore_eos: false, ..greedy(60) };
    let prompts = ["Phileas Fogg travels:", "The mansion in Saville Row"];
    let together = model.stream_batch(prompts, &options).unwrap();
    let (replies, _) = together.constrained(0, constraint()).unwrap().finish().unwrap();
    let town = serde_json::from_str::<Value>(&replies[0].text).unwrap()["town"].clone();
    assert!(town.is_string());
    assert_eq!(replies[1], model.generate(prompts[1], &options).unwrap().0);

    let mut session = model.session(128).unwrap();
    let mut begun = model.stream_in(&mut session, prompts[0], &options).unwrap().constrained(0, constraint()).unwrap();
    (0..said).for_each(|_| drop(begun.next().unwrap().unwrap()));
    drop(begun);
    let resumed = model.stream_in(&mut session, prompts[0], &options).unwrap();
    assert_eq!(resumed.constrained(0, constraint()).unwrap().finish().unwrap().0[0], replies[0]);
}

/// Recites these tokens, whatever the model would say.
struct Recital(Vec<u32>);

impl Constraint for Recital {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let next = self.0.first().copied();
        let others = (0..).zip(logits).filter(|(id, _)| Some(*id) != next);
        others.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn push(&mut self, _: u32) -> Result<Vec<u32>> {
        self.0.remove(0);
        Ok(Vec::new())
    }
}

/// Characters and stop strings are found though tokens cut both into pieces.
#[rstest]
#[case::a_character("é", "caf", FinishReason::Stop)]
#[case::across("→ 日", "café ", FinishReason::Stop)]
#[case::after_a_start_that_came_to_nothing("→→ 日", "café ", FinishReason::Stop)]
#[case::never("→x", "café →→ 日本", FinishReason::Length)]
fn stop_strings_are_found_across_tokens(#[case] stop: &str, #[case] want: &str, #[case] reason: FinishReason) {
    let mut model = load(&demo());
    let said = if stop == "→ 日" { "café → 日本" } else { "café →→ 日本" };
    let ids = model.tokenizer().unwrap().encode(said, false).unwrap();
    assert!(ids.len() > said.chars().count(), "characters are cut into tokens");
    let options = GenerateOptions { stop: vec![stop.to_owned()], ..greedy(ids.len()) };
    let reply = model.stream("It was a", &options).unwrap();
    let (replies, _) = reply.constrained(0, Box::new(Recital(ids))).unwrap().finish().unwrap();
    assert_eq!((replies[0].text.as_str(), replies[0].finish_reason), (want, Some(reason)));
}

/// A constraint that nothing can follow is an error, whether the likeliest token is taken or one is drawn.
#[rstest]
fn no_token_left_is_an_error(#[values(0.0, 1.0)] temperature: f32) {
    let mut model = load(&demo());
    let options = GenerateOptions { temperature: Some(temperature), ..greedy(4) };
    let mut reply = model.stream("It was a", &options).unwrap().constrained(0, Box::new(Recital(vec![50]))).unwrap();
    assert_eq!(reply.next().unwrap().unwrap().id, 50);
    let error = reply.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("no token may follow"), "{error}");
}

/// A checkpoint may name end-of-sequence tokens that its vocabulary has not.
#[test]
fn an_eos_token_out_of_range_ends_no_grammar() {
    let dir = crate::support::copy_of(&demo());
    let write = |ids: &str| {
        std::fs::write(dir.path().join("generation_config.json"), format!(r#"{{"eos_token_id": {ids}}}"#)).unwrap();
        load(dir.path()).grammars().map(|_| ())
    };
    write("[0, 4000000]").unwrap();
    let error = write("4000000").unwrap_err().to_string();
    assert!(error.contains("no end-of-sequence token that it has"), "{error}");
}

#[test]
fn a_sequence_that_is_not_there_has_no_constraint() {
    let mut model = load(&demo());
    let error = model.stream("It was a", &greedy(4)).unwrap().constrained(1, Count::by(1)).err().unwrap().to_string();
    assert_eq!(error, "there is no sequence 1: there are 1, counted from 0");
}
