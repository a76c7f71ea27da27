//! Sequences that join and leave a batch are computed as if alone, and a pass brings weights once for all.

use burn::backend::Flex;
use leveret::{Budget, GenerateOptions, Model, RunDtype};
use rstest::rstest;

use crate::support::{demo, fixture, greedy, load};

const PROMPTS: [&[u32]; 4] = [&[5], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &[9, 8, 7], &[40, 41, 42, 43]];

/// The second joins after two passes, the third after three; the first leaves while the others go on.
#[rstest]
fn joined_equals_alone(
    #[values(
        "llama",
        "mistral",
        "qwen2_sliding",
        "qwen3_sliding",
        "mixtral",
        "deepseek_v3",
        "phi3_crossing",
        "llama_rope_dynamic",
        "mpt",
        "qwen3_5",
        "mamba2",
        "lfm2",
        "jamba",
        "minimax",
        "kimi_linear",
        "gemma3n",
        "gemma4_shared",
        "llama4_chunked",
        "qwen_long"
    )]
    name: &str,
    #[values(Budget::Free, Budget::Min)] ram: Budget,
) {
    let dir = fixture(name);
    let mut alone = load(&dir);
    let lengths = [4, 30, 9, 17];
    let want: Vec<_> = PROMPTS
        .iter()
        .zip(lengths)
        .map(|(prompt, tokens)| alone.generate(prompt.to_vec(), &greedy(tokens)).unwrap().0.tokens)
        .collect();
    let mut model = Model::<Flex>::builder(&dir).dtype(RunDtype::Float32).ram(ram).load().unwrap();
    let mut batch = model.batch(4, 64).unwrap();
    let mut found = vec![Vec::new(); 4];
    for pass in 0.. {
        for (i, at) in [0, 2, 3, 3].into_iter().enumerate() {
            if at == pass {
                assert_eq!(batch.join(PROMPTS[i].to_vec(), &greedy(lengths[i])).unwrap(), i);
            }
        }
        if batch.is_empty() {
            break;
        }
        batch.step().unwrap().0.into_iter().for_each(|token| found[token.sequence].push(token.id));
    }
    assert_eq!(found, want);
}

#[test]
fn one_pass_serves_eight() {
    let mut model = Model::<Flex>::builder(demo()).ram(Budget::Min).load().unwrap();
    let weights = model.checkpoint_bytes();
    let mut batch = model.batch(8, 64).unwrap();
    (0..8).for_each(|i| assert_eq!(batch.join(vec![50 + i, 60], &greedy(5)).unwrap(), i as usize));
    assert_eq!(batch.room(), 0);
    for _ in 0..5 {
        let (tokens, stats) = batch.step().unwrap();
        assert_eq!((tokens.len(), stats.read_bytes), (8, weights), "eight tokens for the bytes of one");
    }
    assert!(batch.is_empty());
}

#[test]
fn those_who_leave_make_room() {
    let mut model = load(&demo());
    let mut batch = model.batch(2, 64).unwrap();
    let (first, second) = (batch.join(vec![50], &greedy(20)).unwrap(), batch.join(vec![60], &greedy(20)).unwrap());
    batch.step().unwrap();
    let error = batch.join(vec![70], &greedy(20)).unwrap_err().to_string();
    assert!(error.contains("1 sequences are to join, there is room for 0"), "{error}");
    batch.leave(first);
    assert_eq!((batch.len(), batch.room()), (1, 1));
    let (tokens, _) = batch.step().unwrap();
    assert_eq!(tokens.iter().map(|token| token.sequence).collect::<Vec<_>>(), [second]);
    assert!(batch.join(vec![50; 60], &greedy(20)).unwrap_err().to_string().contains("80 positions"));
    assert!(batch.join(vec![99_999], &greedy(2)).unwrap_err().to_string().contains("out of range"));
}

/// Several replies to one prompt compute it once and differ by their seeds alone.
#[test]
fn several_replies_share_a_prompt() {
    let mut model = load(&demo());
    let options = GenerateOptions { temperature: Some(1.0), seed: Some(3), ..greedy(8) };
    let want: Vec<_> = (3..6)
        .map(|seed| {
            let options = GenerateOptions { seed: Some(seed), ..options.clone() };
            model.generate(vec![50u32, 60, 70], &options).unwrap().0.tokens
        })
        .collect();
    let mut batch = model.batch(3, 64).unwrap();
    let constraints = (0..3).map(|_| None).collect();
    assert_eq!(batch.join_several(vec![50, 60, 70], &options, constraints).unwrap(), 0..3);
    let (mut found, mut computed) = (vec![Vec::new(); 3], 0);
    while !batch.is_empty() {
        let (tokens, stats) = batch.step().unwrap();
        computed += stats.tokens;
        tokens.into_iter().for_each(|token| found[token.sequence].push(token.id));
    }
    assert_eq!((found, computed), (want, 3 + 3 * 7));
}
