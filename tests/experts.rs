//! Experts stream one by one: a token costs the bytes of those that it chose.

use std::path::Path;

use burn::backend::Flex;
use leveret::models::weight::Format;
use leveret::{Budget, Model, Pack, RunDtype, Synth, Transfer};
use rstest::rstest;

use crate::support::{fixture, greedy};

const PROMPT: [u32; 9] = [3, 14, 15, 92, 65, 35, 89, 79, 32];

fn model(dir: &Path, ram: Budget, transfer: Transfer) -> Model<Flex> {
    Model::builder(dir).dtype(RunDtype::Float32).ram(ram).transfer(transfer).load().unwrap()
}

/// Counted by hand: sizes of one expert and of all tensors that no expert has and that are not looked up, in bytes.
#[rstest]
#[case("mixtral", 4 * 3 * 32 * 56, 10, 2 * 2, false)]
#[case("qwen3_moe", 4 * 3 * 32 * 24, 12, 2 * 2, false)]
#[case("qwen3_moe_fused", 4 * 3 * 32 * 24, 3, 1, true)]
fn bytes_per_token_are_those_of_the_routed_experts(
    #[case] name: &str,
    #[case] expert: u64,
    #[case] all: u64,
    #[case] chosen: usize,
    #[case] tied: bool,
    #[values(Transfer::Sync, Transfer::Async)] transfer: Transfer,
) {
    let mut model = model(&fixture(name), Budget::Min, transfer);
    let embedding = if tied { 0 } else { 4 * 128 * 32 };
    let others = model.checkpoint_bytes() - all * expert - embedding;
    let (_, stats) = model.generate(PROMPT.to_vec(), &greedy(8)).unwrap();
    assert_eq!(stats.resident_units, 0);
    for pass in &stats.decode {
        assert_eq!(pass.experts, chosen);
        assert_eq!(pass.experts_read + pass.experts_resident, chosen);
        assert_eq!(pass.read_bytes, others + pass.experts_read as u64 * expert, "{pass:?}");
    }
    let read: usize = stats.decode.iter().map(|pass| pass.experts_read).sum();
    assert!(chosen == 1 || read == chosen * stats.decode.len(), "one slot of experts serves two layers: {read}");
    let prefill = &stats.prefill;
    assert!(prefill.experts as u64 <= all, "each expert is brought once for all tokens of a pass");
    assert_eq!(prefill.read_bytes, others + prefill.experts_read as u64 * expert);
}

/// Experts that were used last stay as far as the budget goes, and nothing changes but the bytes that are read.
#[rstest]
fn a_larger_budget_reads_fewer_experts(#[values("mixtral", "qwen3_moe")] name: &str) {
    let dir = fixture(name);
    let want = model(&dir, Budget::Free, Transfer::Async).logits(&PROMPT, &[4, 1]).unwrap();
    let whole = model(&dir, Budget::Free, Transfer::Async).plan(1, PROMPT.len(), 40).unwrap();
    let (all, expert) = (whole.devices[0].all_experts, whole.devices[0].expert_slot_len);
    let mut read = Vec::new();
    for experts in [1, 2, 5, all - 1] {
        let ram = whole.bytes() - (all - experts) as u64 * expert;
        let mut model = model(&dir, Budget::Bytes(ram), Transfer::Async);
        let plan = model.plan(1, PROMPT.len(), 40).unwrap();
        assert!(plan.bytes() <= ram && plan.resident() == plan.tiers.len(), "{plan:?}");
        assert_eq!(plan.devices[0].experts, experts);
        assert_eq!(model.logits(&PROMPT, &[4, 1]).unwrap(), want);
        let (_, stats) = model.generate(PROMPT.to_vec(), &greedy(40)).unwrap();
        assert!(stats.planned_bytes <= ram);
        read.push(stats.decode.iter().map(|pass| pass.experts_read).sum::<usize>());
    }
    assert!(read.is_sorted_by(|a, b| a >= b) && read[0] > read[3], "{read:?}");
}

#[test]
fn all_experts_stay_where_there_is_room() {
    let mut model = model(&fixture("mixtral"), Budget::Free, Transfer::Async);
    assert!(model.plan(1, PROMPT.len(), 8).unwrap().is_resident());
    let first = model.generate(PROMPT.to_vec(), &greedy(8)).unwrap();
    let again = model.generate(PROMPT.to_vec(), &greedy(8)).unwrap();
    assert_eq!(first.0, again.0);
    assert!(first.1.prefill.experts_read > 0);
    assert_eq!(again.1.prefill.read_bytes + again.1.decode.iter().map(|pass| pass.read_bytes).sum::<u64>(), 0);
}

/// Experts are packed one by one, whichever way they lay, and stream packed.
#[rstest]
fn packed_experts_stream_packed(#[values("mixtral", "qwen3_moe", "qwen3_moe_fused")] name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let report = Pack::new(Format::Int8).write::<Flex>(&fixture(name), dir.path()).unwrap();
    assert!(report.packed_matrices > 0);
    let mut dense = model(&fixture(name), Budget::Min, Transfer::Async);
    let mut packed = model(dir.path(), Budget::Min, Transfer::Async);
    let read = |model: &mut Model<Flex>| model.generate(PROMPT.to_vec(), &greedy(2)).unwrap().1.prefill.read_bytes;
    assert!(read(&mut packed) * 5 < read(&mut dense) * 3);
    let want = model(dir.path(), Budget::Free, Transfer::Async).logits(&PROMPT, &[4, 1]).unwrap();
    assert_eq!(packed.logits(&PROMPT, &[4, 1]).unwrap(), want);
}

/// A missing expert is named, whichever way experts lie.
#[test]
fn a_missing_expert_is_named() {
    let dir = crate::support::copy_of(&fixture("mixtral"));
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"num_local_experts\": 5", "\"num_local_experts\": 6")).unwrap();
    let error = Model::<Flex>::from_pretrained(dir.path()).unwrap_err().to_string();
    assert!(error.contains("block_sparse_moe.gate.weight` has shape [5, 32], expected [6, 32]"), "{error}");
    std::fs::write(&path, config.replace("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 6")).unwrap();
    let error = Model::<Flex>::from_pretrained(dir.path()).unwrap_err().to_string();
    assert!(error.contains("`num_experts_per_tok` is 6, expected a positive number up to the number of experts, 5"));
}

/// Configs of experts that nobody can compute are refused, and the field is named.
#[rstest]
#[case("mixtral", "num_local_experts", "0", "`num_local_experts` is 0")]
#[case("mixtral", "num_experts_per_tok", "0", "`num_experts_per_tok` is 0")]
#[case("mixtral", "num_local_experts", "99999999", "`num_local_experts` is 99999999")]
#[case("mixtral", "num_local_experts", "-1", "`num_local_experts`: invalid value: integer `-1`")]
#[case("mixtral", "hidden_size", "\"wide\"", "`hidden_size`: invalid type: string \"wide\"")]
#[case("qwen3_moe", "moe_intermediate_size", "0", "`moe_intermediate_size` is 0")]
#[case("qwen3_moe", "moe_intermediate_size", "18446744073709551615", "`moe_intermediate_size` is 18446744073709551615")]
#[case("qwen3_moe", "decoder_sparse_step", "0", "`decoder_sparse_step` is 0")]
#[case("qwen3_moe", "mlp_only_layers", "\"all\"", "`mlp_only_layers`: invalid type")]
#[case("deepseek_v3", "n_group", "4", "`n_group` is 4")]
#[case("deepseek_v3", "n_group", "0", "`n_group` is 0")]
#[case("deepseek_v3", "topk_group", "1", "`topk_group` is 1")]
#[case("deepseek_v3", "topk_group", "9", "`topk_group` is 9")]
#[case("deepseek_v3", "kv_lora_rank", "0", "`kv_lora_rank` is 0")]
#[case("deepseek_v3", "kv_lora_rank", "18446744073709551615", "`kv_lora_rank` is 18446744073709551615")]
#[case("deepseek_v3", "qk_rope_head_dim", "7", "`head_dim` is 7")]
#[case("deepseek_v3", "n_shared_experts", "18446744073709551615", "shape")]
#[case("deepseek_v3", "first_k_dense_replace", "18446744073709551615", "tensor")]
#[case("deepseek_v2", "topk_method", "\"best\"", "`topk_method` is best")]
#[case("gpt_oss", "swiglu_limit", "0.0", "`swiglu_limit` is 0")]
#[case("gpt_oss", "intermediate_size", "25", "shape")]
#[case("glm4_moe", "partial_rotary_factor", "0.1", "`partial_rotary_factor` is for 1 numbers")]
#[case("ernie4_5_moe", "moe_layer_interval", "0", "`moe_layer_interval` is 0")]
#[case("granitemoe", "logits_scaling", "0.0", "`logits_scaling` is 0")]
#[case("gemma4_moe", "num_experts", "0", "`num_experts` is 0")]
#[case("gemma4_moe", "top_k_experts", "9", "`top_k_experts` is 9")]
#[case("gemma4_moe", "moe_intermediate_size", "null", "`moe_intermediate_size` is 0")]
#[case("gemma4_moe", "per_layer_config", "{\"0\": {\"head_dim\": 4}}", "`per_layer_config` is given otherwise")]
#[case("gemma4_shared", "num_kv_shared_layers", "5", "`num_kv_shared_layers` is 5, expected less than")]
#[case("gemma4_shared", "num_kv_shared_layers", "4", "`num_kv_shared_layers` is 4, expected so many")]
#[case("gemma4_shared", "hidden_size_per_layer_input", "7", "shape")]
fn bad_configs_are_refused(#[case] name: &str, #[case] field: &str, #[case] value: &str, #[case] want: &str) {
    let dir = crate::support::copy_of(&fixture(name));
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[field] = serde_json::from_str(value).unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    let error = Model::<Flex>::from_pretrained(dir.path()).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

/// A prompt that is worked off in chunks brings each expert once for all of them.
#[test]
fn a_long_prompt_brings_each_expert_once() {
    let prompt: Vec<u32> = (0..200).map(|i| i * 13 % 127).collect();
    let mut whole = model(&fixture("mixtral"), Budget::Free, Transfer::Async);
    assert_eq!(whole.plan(1, prompt.len(), 0).unwrap().chunk, prompt.len());
    let mut chunked = model(&fixture("mixtral"), Budget::Min, Transfer::Async);
    assert!(chunked.plan(1, prompt.len(), 0).unwrap().chunk <= 32);
    let [want, got] = [&mut whole, &mut chunked].map(|model| model.logits(&prompt, &[]).unwrap().concat());
    let difference = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= 5e-5, "{difference}");
    let (_, stats) = chunked.generate(prompt, &greedy(1)).unwrap();
    assert!(stats.prefill.experts <= 10 && stats.prefill.experts_read == stats.prefill.experts, "{stats:?}");
}

/// Padding chooses nobody: a batch brings what its tokens chose.
#[test]
fn padding_brings_no_experts() {
    let mut model = model(&fixture("qwen3_moe_fused"), Budget::Min, Transfer::Async);
    let (_, stats) = model.generate_batch([vec![5u32], (1..30).collect()], &greedy(3)).unwrap();
    let alone = model.generate((1..30).collect::<Vec<u32>>(), &greedy(3)).unwrap().1;
    assert!(stats.prefill.experts <= alone.prefill.experts + 1, "{stats:?}");
}

/// Latent attention keeps kv_lora_rank + qk_rope_head_dim numbers of a position, in each of three layers.
#[test]
fn latent_caches_are_as_small_as_planned() {
    let plan = model(&fixture("deepseek_v3"), Budget::Free, Transfer::Async).plan(1, 9, 7).unwrap();
    assert_eq!(plan.devices[0].kv_cache, 3 * 16 * (16 + 8) * 4);
}

/// A file that becomes shorter while experts stream from it is an error, and not a wait.
#[test]
fn a_shortened_file_ends_the_generation() {
    let dir = crate::support::copy_of(&fixture("mixtral"));
    let mut model = model(dir.path(), Budget::Min, Transfer::Async);
    model.generate(PROMPT.to_vec(), &greedy(2)).unwrap();
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = model.generate(PROMPT.to_vec(), &greedy(2)).unwrap_err().to_string();
    assert!(error.contains("changed or became shorter"), "{error}");
}

/// What is made up with experts, in either family's words, is a checkpoint that runs.
#[rstest]
fn made_up_experts_run(#[values(false, true)] qk_norm: bool) {
    let dir = tempfile::tempdir().unwrap();
    let synth = Synth {
        hidden_size: 64,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 300,
        tie_word_embeddings: false,
        head_dim: if qk_norm { 32 } else { 16 },
        qk_norm,
        num_local_experts: 5,
        num_experts_per_tok: 2,
        dtype: RunDtype::Bfloat16,
    };
    synth.write(dir.path(), 3).unwrap();
    let (_, stats) = model(dir.path(), Budget::Min, Transfer::Async).generate(PROMPT.to_vec(), &greedy(3)).unwrap();
    assert!(stats.decode.iter().all(|pass| pass.experts == 2 * 2));
}
