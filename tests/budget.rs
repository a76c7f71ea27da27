//! Memory stays under the budget.

use assert_cmd::Command;
use leveret::{RunDtype, Synth};
use rstest::rstest;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// 190 MiB of weights in a budget of 100 MiB: the peak of the whole process stays below the budget and what any run
/// takes (code, threads, tokenizer).
#[rstest]
fn peak_memory_stays_under_the_budget(#[values("sync", "async")] transfer: &str) {
    let dir = tempfile::tempdir().unwrap();
    let synth = Synth {
        hidden_size: 1024,
        intermediate_size: 4096,
        num_hidden_layers: 6,
        num_attention_heads: 16,
        num_key_value_heads: 4,
        vocab_size: 4000,
        tie_word_embeddings: false,
        head_dim: 64,
        qk_norm: false,
        num_local_experts: 0,
        num_experts_per_tok: 0,
        dtype: RunDtype::Bfloat16,
    };
    synth.write(dir.path(), 0).unwrap();
    let output = Command::cargo_bin("leveret")
        .unwrap()
        .args(["generate", "--tokens", "1,2,3,4", "--max-tokens", "3", "--ram", "100MiB", "--json"])
        .args(["--transfer", transfer, "--model"])
        .arg(dir.path())
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let planned = report["stats"]["planned_bytes"].as_u64().unwrap();
    assert!(planned <= 100 * MIB, "{planned}");
    assert!(report["stats"]["resident_units"].as_u64().unwrap() > 0, "what fits stays");
    let peak = report["peak_memory"].as_u64().unwrap();
    assert!(peak < (100 + 100) * MIB, "peak {} MiB", peak / MIB);
}

/// 195 MiB of weights, most of them of experts, in a budget of 60 MiB: the same.
#[rstest]
fn experts_stay_under_the_budget(#[values("sync", "async")] transfer: &str) {
    let dir = tempfile::tempdir().unwrap();
    let synth = Synth {
        hidden_size: 512,
        intermediate_size: 1024,
        num_hidden_layers: 4,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        vocab_size: 2000,
        tie_word_embeddings: false,
        head_dim: 64,
        qk_norm: false,
        num_local_experts: 15,
        num_experts_per_tok: 3,
        dtype: RunDtype::Bfloat16,
    };
    synth.write(dir.path(), 0).unwrap();
    let prompt: Vec<_> = (1..40).map(|id| id.to_string()).collect();
    let output = Command::cargo_bin("leveret")
        .unwrap()
        .args(["generate", "--max-tokens", "3", "--ram", "60MiB", "--json", "--tokens", &prompt.join(",")])
        .args(["--transfer", transfer, "--model"])
        .arg(dir.path())
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let planned = report["stats"]["planned_bytes"].as_u64().unwrap();
    assert!(planned <= 60 * MIB, "{planned}");
    assert!(report["stats"]["prefill"]["experts_read"].as_u64().unwrap() > 30, "a prompt needs most experts");
    let peak = report["peak_memory"].as_u64().unwrap();
    assert!(peak < (60 + 100) * MIB, "peak {} MiB", peak / MIB);
}
