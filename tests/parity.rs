//! Every supported checkpoint gives the same logits and tokens as transformers.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::DType;
use leveret::{Backend, Budget, Model, RunDtype, Transfer};
use rstest::rstest;

use crate::support::fixture;

/// Largest difference of two logits, which are of order 1 to 10.
const TOLERANCE: f32 = 1e-3;

fn load<B: Backend>(dir: &Path, attention: &str, ram: Budget, transfer: Transfer) -> Model<B> {
    Model::builder(dir).dtype(RunDtype::Float32).attention(attention).ram(ram).transfer(transfer).load().unwrap()
}

/// Both attention implementations, everything resident and everything streamed in each mode.
fn agrees_with_transformers<B: Backend>(dir: &Path) {
    let reference = dir.join("reference.safetensors");
    let ways = [
        (Budget::Free, Transfer::Async),
        (Budget::Min, Transfer::Sync),
        (Budget::Min, Transfer::Prefetch),
        (Budget::Min, Transfer::Async),
    ];
    for attention in ["eager", "sdpa"] {
        for (ram, transfer) in ways {
            let report = load::<B>(dir, attention, ram, transfer).verify(&reference).unwrap();
            let way = format!("{} {attention} {ram:?} {transfer:?}", dir.display());
            assert!(report.agrees(TOLERANCE), "{way}: {report:#?}");
            assert!(report.greedy.is_some() && report.batch.is_some(), "{way}: the reference has replies");
        }
    }
}

#[rstest]
fn flex(#[files("tests/fixtures/*/reference.safetensors")] reference: PathBuf) {
    agrees_with_transformers::<Flex>(reference.parent().unwrap());
}

#[cfg(feature = "ndarray")]
#[rstest]
fn ndarray(#[files("tests/fixtures/*/reference.safetensors")] reference: PathBuf) {
    agrees_with_transformers::<burn::backend::NdArray>(reference.parent().unwrap());
}

/// Fixtures made elsewhere: the folders in the directory that `LEVERET_FIXTURES` names, if it is set.
#[test]
fn fixtures_from_elsewhere() {
    let Some(dir) = std::env::var_os("LEVERET_FIXTURES") else { return };
    let folders = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|folder| folder.join("reference.safetensors").exists()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "LEVERET_FIXTURES holds folders with reference.safetensors");
    folders.iter().for_each(|folder| agrees_with_transformers::<Flex>(folder));
}

/// In bf16 logits lie as near to those in f32 as transformers' own bf16 does.
#[rstest]
fn bf16_is_as_near_to_f32_as_transformers(
    #[values(
        "llama_gqa_bf16",
        "mistral_nemo",
        "qwen2",
        "qwen3_tied",
        "qwen3_5_bf16",
        "lfm2_bf16",
        "gemma2_bf16",
        "gemma3_v5",
        "glm4",
        "olmo3_v5",
        "stablelm_parallel",
        "gpt2_bf16",
        "falcon",
        "gpt_neox_sequential"
    )]
    name: &str,
    #[values("eager", "sdpa")] attention: &str,
) {
    let dir = fixture(name);
    let bytes = std::fs::read(dir.join("reference.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        file.tensor(name).unwrap().data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let mean_distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32;
    let prompt = file.tensor("prompt").unwrap();
    let prompt: Vec<_> = prompt.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();

    let mut model = Model::<Flex>::builder(&dir).attention(attention).load().unwrap();
    assert_eq!(model.dtype(), DType::BF16, "config.json says bfloat16");
    let ours = model.logits(&prompt, &[]).unwrap().concat();
    let (exact, theirs) = (floats("logits"), floats("bf16_logits"));
    let (ours, theirs) = (mean_distance(&ours, &exact), mean_distance(&theirs, &exact));
    assert!(ours <= theirs * 1.1, "ours {ours}, transformers {theirs}");
}
