//! The KV cache changes nothing but the work.

use leveret::GenerateOptions;
use rstest::rstest;

use crate::support::{fixture, load};

/// One pass, several of different lengths, and token by token: the same logits within rounding.
#[rstest]
fn cached_equals_uncached(
    #[values(
        "llama",
        "llama_gqa_bf16",
        "mistral",
        "qwen2_sliding",
        "qwen3_sliding",
        "qwen2_yarn",
        "qwen3_5",
        "lfm2",
        "mamba2",
        "jamba",
        "minimax"
    )]
    name: &str,
) {
    let mut model = load(&fixture(name));
    let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 90).collect();
    let whole = model.logits(&tokens, &[]).unwrap();
    for passes in [vec![1; 40], vec![7, 1, 1, 20, 1], vec![39]] {
        let parts = model.logits(&tokens, &passes).unwrap();
        let difference = whole.iter().flatten().zip(parts.iter().flatten()).map(|(a, b)| (a - b).abs());
        let difference = difference.fold(0.0, f32::max);
        assert!(difference <= 5e-5, "{name} {passes:?}: {difference}");
    }
}

/// A later token never changes the logits before it, to the bit.
#[rstest]
fn attention_is_causal(#[values("eager", "sdpa")] attention: &str) {
    let dir = fixture("llama");
    let mut model = leveret::Model::<burn::backend::Flex>::builder(dir).attention(attention).load().unwrap();
    let tokens: Vec<u32> = (0..30).map(|i| i * 11 % 100).collect();
    let mut other = tokens.clone();
    other[20] = 101;
    let (a, b) = (model.logits(&tokens, &[]).unwrap(), model.logits(&other, &[]).unwrap());
    assert_eq!(a[..20], b[..20]);
    assert_ne!(a[20..], b[20..]);
}

#[test]
fn a_decode_pass_computes_one_position() {
    let mut model = load(&fixture("qwen3"));
    let options = GenerateOptions { max_tokens: Some(5), ignore_eos: true, ..Default::default() };
    let (_, stats) = model.generate(vec![1, 2, 3, 4], &options).unwrap();
    assert_eq!(stats.prefill.tokens, 4);
    assert_eq!(stats.decode.iter().map(|pass| pass.tokens).collect::<Vec<_>>(), [1; 4]);
}

/// Prompts that are far longer than the window, at once and in parts.
#[rstest]
fn a_window_forgets_without_a_trace(
    #[values("mistral", "qwen2_sliding", "qwen3_sliding", "gemma4_shared")] name: &str,
) {
    let mut model = load(&fixture(name));
    let tokens: Vec<u32> = (0..700).map(|i| i * 13 % 90).collect();
    let whole = model.logits(&tokens, &[]).unwrap();
    for passes in [vec![300, 1, 1, 290], vec![10, 1, 600, 1]] {
        let parts = model.logits(&tokens, &passes).unwrap();
        let difference = whole.iter().flatten().zip(parts.iter().flatten()).map(|(a, b)| (a - b).abs());
        let difference = difference.fold(0.0, f32::max);
        assert!(difference <= 5e-5, "{name} {passes:?}: {difference}");
    }
    let (reply, _) = model.generate(tokens, &crate::support::greedy(5)).unwrap();
    assert_eq!(reply.tokens.len(), 5);
}
