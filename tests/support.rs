//! What several tests need.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use leveret::{GenerateOptions, Model, RunDtype, Synth};

/// A checkpoint among the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The small trained model.
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

/// Two layers of random weights, with room for 131,072 positions.
pub fn tiny(vocab_size: usize) -> Synth {
    Synth {
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size,
        tie_word_embeddings: true,
        head_dim: 16,
        qk_norm: false,
        num_local_experts: 0,
        num_experts_per_tok: 0,
        dtype: RunDtype::Bfloat16,
    }
}

/// A model in f32 on the default backend.
pub fn load(dir: &Path) -> Model<Flex> {
    Model::builder(dir).dtype(RunDtype::Float32).load().unwrap()
}

/// The likeliest `max_tokens` tokens, whatever they are.
pub fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens: Some(max_tokens),
        temperature: Some(0.0),
        repetition_penalty: Some(1.0),
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

/// A copy of a checkpoint that a test may spoil.
pub fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}
