//! Prompts of different lengths in one pass equal single runs.

use leveret::GenerateOptions;
use rstest::rstest;

use crate::support::{demo, fixture, greedy, load};

#[rstest]
fn batch_equals_single(
    #[values(
        "llama",
        "mistral",
        "qwen2_sliding",
        "qwen3",
        "mixtral",
        "deepseek_v3",
        "gpt_oss",
        "qwen3_5",
        "lfm2",
        "mamba2",
        "jamba",
        "minimax",
        "kimi_linear"
    )]
    name: &str,
) {
    let mut model = load(&fixture(name));
    let prompts: Vec<Vec<u32>> = vec![vec![5], (1..30).collect(), vec![9, 8, 7], (40..57).collect()];
    let (batch, _) = model.generate_batch(prompts.clone(), &greedy(12)).unwrap();
    for (prompt, together) in prompts.into_iter().zip(batch) {
        assert_eq!(model.generate(prompt, &greedy(12)).unwrap().0, together);
    }
}

#[test]
fn sampled_batch_equals_single() {
    let mut model = load(&demo());
    let options = GenerateOptions { max_tokens: Some(12), seed: Some(5), ..Default::default() };
    let prompts = ["The mansion in Saville Row", "Phileas Fogg"];
    let (batch, _) = model.generate_batch(prompts, &options).unwrap();
    for (prompt, together) in prompts.into_iter().zip(batch) {
        assert_eq!(model.generate(prompt, &options).unwrap().0, together);
    }
}

/// A sequence that ends early leaves the others as they are.
#[test]
fn sequences_end_on_their_own() {
    let mut model = load(&demo());
    let options = GenerateOptions { stop: vec![",".into()], ..greedy(20) };
    let prompts = ["The mansion in Saville Row", "Phileas Fogg, having shut the door of his house"];
    let (batch, _) = model.generate_batch(prompts, &options).unwrap();
    assert_eq!(batch[0].text, "");
    for (prompt, together) in prompts.into_iter().zip(batch) {
        assert_eq!(model.generate(prompt, &options).unwrap().0, together);
    }
}

/// The padding token is also the end-of-sequence token here, and stands in the text: nothing is lost.
#[test]
fn pad_equal_to_eos_needs_no_care() {
    let mut model = load(&demo());
    let prompts: Vec<Vec<u32>> = vec![vec![0, 50, 0, 60, 70], vec![50, 60]];
    let (batch, _) = model.generate_batch(prompts.clone(), &greedy(8)).unwrap();
    let without = model.generate(vec![50u32, 60, 70], &greedy(8)).unwrap().0;
    assert_ne!(batch[0].tokens, without.tokens, "the token in the text is attended to");
    for (prompt, together) in prompts.into_iter().zip(batch) {
        assert_eq!(model.generate(prompt, &greedy(8)).unwrap().0, together);
    }
}

/// Padding is computed with numbers like any other: even a norm without epsilon has something to divide by.
#[test]
fn padding_is_harmless_without_epsilon() {
    let dir = crate::support::copy_of(&fixture("llama"));
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"rms_norm_eps\": 0.01", "\"rms_norm_eps\": 0.0")).unwrap();
    let mut model = load(dir.path());
    let prompts: Vec<Vec<u32>> = vec![vec![5], (1..30).collect()];
    let (batch, _) = model.generate_batch(prompts.clone(), &greedy(6)).unwrap();
    for (prompt, together) in prompts.into_iter().zip(batch) {
        assert_eq!(model.generate(prompt, &greedy(6)).unwrap().0, together);
    }
}
