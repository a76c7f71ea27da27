//! The token loop: text, stop rules, sampling, ends.

use leveret::{Error, FinishReason, GenerateOptions};

use crate::support::{demo, fixture, greedy, load};

const PROMPT: &str = "The mansion in Saville Row";

#[test]
fn the_demo_recites() {
    let (completion, _) = load(&demo()).generate(PROMPT, &greedy(28)).unwrap();
    assert!(completion.text.starts_with(", though not sumptuous, was exceedingly comfortable."), "{}", completion.text);
    assert_eq!(completion.finish_reason, Some(FinishReason::Length));
}

#[test]
fn streamed_text_is_the_decoded_whole() {
    let mut model = load(&demo());
    // Bytes that are not UTF-8 on their own come as whole characters or as replacement signs.
    let options = GenerateOptions { temperature: Some(3.0), seed: Some(3), ..greedy(60) };
    let generation = model.stream("£ — é", &options).unwrap();
    let tokens: Vec<_> = generation.map(Result::unwrap).collect();
    let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
    let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(text, model.tokenizer().unwrap().decode(&ids).unwrap());
}

#[test]
fn a_stop_string_ends_the_reply_and_is_not_part_of_it() {
    let options = GenerateOptions { stop: vec!["sumptuous".into(), "nowhere".into()], ..greedy(40) };
    let (completion, _) = load(&demo()).generate(PROMPT, &options).unwrap();
    assert_eq!((completion.text.as_str(), completion.finish_reason), (", though not ", Some(FinishReason::Stop)));
}

/// Replies are there as far as they came.
#[test]
fn what_was_given_before_an_interrupt_is_kept() {
    let mut model = load(&demo());
    let whole = model.generate_batch([PROMPT, "Phileas Fogg"], &greedy(20)).unwrap().0;
    let cancellation = model.cancellation();
    let mut generation = model.stream_batch([PROMPT, "Phileas Fogg"], &greedy(20)).unwrap();
    let given: Vec<_> = generation.by_ref().take(6).map(Result::unwrap).collect();
    cancellation.cancel();
    let error = generation.find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Cancelled), "{error}");
    for (sequence, (reply, whole)) in generation.completions().iter().zip(&whole).enumerate() {
        let text: String = given.iter().filter(|token| token.sequence == sequence).map(|token| &*token.text).collect();
        assert_eq!((&reply.text, &reply.tokens[..], reply.finish_reason), (&text, &whole.tokens[..3], None));
    }
}

/// `generation_config.json` lists two end-of-sequence tokens.
#[test]
fn any_eos_token_ends_the_reply() {
    let mut model = load(&fixture("qwen2"));
    let free = model.generate(vec![3u32, 4, 5], &greedy(16)).unwrap().0.tokens;
    let dir = crate::support::copy_of(&fixture("qwen2"));
    let config = format!(r#"{{"eos_token_id": [{}, {}]}}"#, free[9], free[4]);
    std::fs::write(dir.path().join("generation_config.json"), config).unwrap();
    let mut model = load(dir.path());
    let options = GenerateOptions { ignore_eos: false, ..greedy(16) };
    let (completion, _) = model.generate(vec![3u32, 4, 5], &options).unwrap();
    let end = free.iter().position(|id| *id == free[4] || *id == free[9]).unwrap();
    assert_eq!(completion.tokens, free[..=end]);
    assert_eq!(completion.finish_reason, Some(FinishReason::Stop));
}

/// The first token may be the last.
#[test]
fn an_eos_token_at_once_is_an_empty_reply() {
    let first = load(&demo()).generate(PROMPT, &greedy(1)).unwrap().0.tokens;
    let dir = crate::support::copy_of(&demo());
    std::fs::write(dir.path().join("generation_config.json"), format!(r#"{{"eos_token_id": {}}}"#, first[0])).unwrap();
    let mut model = load(dir.path());
    let options = GenerateOptions { ignore_eos: false, ..greedy(6) };
    let (completions, stats) = model.generate_batch([PROMPT, "Phileas Fogg"], &options).unwrap();
    assert_eq!((completions[0].text.as_str(), &completions[0].tokens), ("", &first));
    assert_eq!(completions[0].finish_reason, Some(FinishReason::Stop));
    assert_eq!(completions[1], model.generate("Phileas Fogg", &options).unwrap().0);
    assert!(stats.decode.len() < 6);
    let mut session = model.session(64).unwrap();
    let (replies, _) = model.stream_in(&mut session, PROMPT, &options).unwrap().finish().unwrap();
    assert_eq!(replies[0], completions[0]);
    let mut batch = model.batch(1, 64).unwrap();
    batch.join(vec![50, 60], &GenerateOptions { max_tokens: Some(0), ..options }).unwrap();
    assert!(batch.is_empty() && batch.step().unwrap().0.is_empty());
}

#[test]
fn an_empty_prompt_is_refused_everywhere() {
    let mut model = load(&demo());
    let empty =
        |error: Option<leveret::Error>| assert!(matches!(error, Some(leveret::Error::EmptyPrompt)), "{error:?}");
    empty(model.generate("", &greedy(1)).err());
    empty(model.generate_batch([vec![5u32], vec![]], &greedy(1)).err());
    empty(model.generate_batch(Vec::<Vec<u32>>::new(), &greedy(1)).err());
    empty(model.logits(&[], &[]).err());
    let mut session = model.session(64).unwrap();
    empty(model.stream_in(&mut session, "", &greedy(1)).err());
    let mut batch = model.batch(2, 64).unwrap();
    empty(batch.join(vec![], &greedy(1)).err());
    assert!(batch.is_empty());
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let mut model = load(&demo());
    let mut with = |seed| {
        let options =
            GenerateOptions { max_tokens: Some(30), temperature: Some(1.5), seed: Some(seed), ..Default::default() };
        model.generate("Chapter", &options).unwrap().0.text
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

/// The demo's generation_config.json asks for sampling and a length.
#[test]
fn defaults_come_from_the_checkpoint() {
    let mut model = load(&demo());
    let mut texts = (0..4).map(|seed| {
        let options = GenerateOptions { seed: Some(seed), ignore_eos: true, ..Default::default() };
        let (completion, _) = model.generate("It was", &options).unwrap();
        assert_eq!(completion.tokens.len(), 100);
        completion.text
    });
    let first = texts.next().unwrap();
    assert!(texts.any(|text| text != first), "do_sample is on");
}

#[test]
fn the_models_last_position_is_the_end() {
    let mut model = load(&fixture("llama_rope_dynamic_prompt"));
    let max = model.dims().max_positions;
    let prompt: Vec<u32> = (0..max as u32 - 3).map(|i| i % 90).collect();
    let options = GenerateOptions { ignore_eos: true, temperature: Some(0.0), ..Default::default() };
    let (completion, _) = model.generate(prompt.clone(), &options).unwrap();
    assert_eq!((completion.tokens.len(), completion.finish_reason), (3, Some(FinishReason::Length)));
    let error = model.generate(prompt, &greedy(4)).unwrap_err().to_string();
    let want =
        format!("{} positions are asked for (prompt {} + max_tokens 4), there is room for {max}", max + 1, max - 3);
    assert!(error.starts_with(&want), "{error}");
}

#[test]
fn no_tokens_asked_for_no_tokens_given() {
    let (completion, _) = load(&demo()).generate(PROMPT, &greedy(0)).unwrap();
    assert!(completion.tokens.is_empty() && completion.text.is_empty());
}

/// The most that penalties may do leaves a token to take.
#[test]
fn extreme_penalties_are_refused_or_survived() {
    let mut model = load(&demo());
    for penalty in [-100.0, 100.0] {
        let options = GenerateOptions {
            temperature: Some(1.0),
            presence_penalty: Some(penalty),
            frequency_penalty: Some(penalty),
            repetition_penalty: Some(if penalty < 0.0 { 0.01 } else { 100.0 }),
            ..greedy(8)
        };
        assert_eq!(model.generate(PROMPT, &options).unwrap().0.tokens.len(), 8);
    }
    for penalty in [1e-38, f32::INFINITY, f32::NAN, -1.0] {
        let options = GenerateOptions { repetition_penalty: Some(penalty), ..greedy(8) };
        let error = model.generate(PROMPT, &options).unwrap_err().to_string();
        assert!(error.contains("expected from 0.01 to 100"), "{error}");
    }
}

/// A token may be forbidden; none can be made certain.
#[test]
fn biases_are_numbers() {
    let mut model = load(&demo());
    let (first, _) = model.generate(PROMPT, &greedy(1)).unwrap();
    let mut biased = |bias| {
        let options = GenerateOptions { logit_bias: vec![(first.tokens[0], bias)], ..greedy(1) };
        model.generate(PROMPT, &options).map(|(completion, _)| completion.tokens)
    };
    assert_ne!(biased(f32::NEG_INFINITY).unwrap(), first.tokens);
    for bias in [f32::INFINITY, f32::NAN] {
        let error = biased(bias).unwrap_err().to_string();
        assert!(error.contains("logit_bias") && error.contains("expected numbers, or -inf"), "{error}");
    }
}

/// Sequences whose vocabularies are looked at side by side choose what each would alone.
#[test]
fn many_logits_choose_the_same_tokens() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::tiny(1 << 17).write(dir.path(), 5).unwrap();
    let mut model = load(dir.path());
    let prompts = [vec![1u32, 2, 3], vec![90_000, 7], vec![5]];
    let options = GenerateOptions { temperature: Some(1.0), seed: Some(9), ..greedy(4) };
    let together = model.generate_batch(prompts.clone(), &options).unwrap().0;
    assert_ne!(together[0].tokens, together[1].tokens);
    for (prompt, reply) in prompts.into_iter().zip(together) {
        assert_eq!(model.generate(prompt, &options).unwrap().0, reply);
    }
}
