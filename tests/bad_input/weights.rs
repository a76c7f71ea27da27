use std::fs;
use std::path::Path;

use burn::backend::Flex;
use leveret::{Backend, Budget, GenerateOptions, Model, RunDtype};
use rstest::rstest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

use super::{assert_says, line, load_error, with_config};
use crate::support::{copy_of, demo, fixture};

const UP: &str = "model.layers.1.mlp.up_proj.weight";

/// Rewrites a copy's weights tensor by tensor; what maps to `None` is left out.
fn with_tensors(name: &str, map: impl Fn(&str, &[usize]) -> Option<(String, Vec<usize>, Dtype)>) -> TempDir {
    let dir = copy_of(&fixture(name));
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let zeros = vec![0u8; 1 << 20];
    let tensors = file.iter().filter_map(|(name, tensor)| {
        let (name, shape, dtype) = map(name, tensor.shape())?;
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let view = TensorView::new(dtype, shape, zeros.get(..len)?).unwrap();
        Some((name, view))
    });
    safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, &path).unwrap();
    dir
}

#[test]
fn missing_tensor() {
    let keep = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec(), Dtype::F32);
    let dir = with_tensors("llama", |name, shape| (name != UP).then(|| keep(name, shape)));
    assert_says(&load_error(dir.path()), &[UP, "is missing", dir.path().to_str().unwrap()]);
}

#[test]
fn misshaped_tensor() {
    let dir = with_tensors("llama", |name, shape| {
        let shape = if name == UP { vec![shape[0], shape[1] + 1] } else { shape.to_vec() };
        Some((name.to_owned(), shape, Dtype::F32))
    });
    assert_says(&load_error(dir.path()), &["model.safetensors", UP, "[80, 49]", "expected [80, 48]"]);
}

#[test]
fn extra_tensor() {
    let dir = with_config("llama", "num_hidden_layers", 1.into());
    assert_says(&load_error(dir.path()), &["model.safetensors", "model.layers.1.", "has no place in this model"]);
}

/// Also beside the decoder: another head means another task.
#[test]
fn extra_tensor_beside_the_decoder() {
    let dir = copy_of(&fixture("llama"));
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let score = TensorView::new(Dtype::F32, vec![2], &[0; 8]).unwrap();
    let tensors = file.iter().chain([("score.weight", score)]);
    let other = dir.path().join("other");
    safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, &other).unwrap();
    fs::rename(other, path).unwrap();
    assert_says(&load_error(dir.path()), &["`score.weight` has no place in this model"]);
}

#[test]
fn unknown_dtype() {
    let dir = with_tensors("llama", |name, shape| {
        let dtype = if name == UP { Dtype::I8 } else { Dtype::F32 };
        Some((name.to_owned(), shape.to_vec(), dtype))
    });
    assert_says(&load_error(dir.path()), &["model.safetensors", UP, "dtype I8", "expected F32, F16 or BF16"]);
}

#[rstest]
#[case(vec![], "the file has 0 bytes")]
#[case(vec![9; 4], "the file has 4 bytes")]
#[case(u64::MAX.to_le_bytes().to_vec(), "claims 18446744073709551615 bytes")]
#[case([2u64.to_le_bytes().as_slice(), b"no"].concat(), "header")]
#[case([2u64.to_le_bytes().as_slice(), b"{}"].concat(), "is missing")]
#[case(header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 8), "header")]
#[case(header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#, 8), "header")]
#[case(header(r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#, 8), "header")]
#[case(header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#, 8), "header")]
#[case(header(r#"{"a":{"dtype":"WHAT","shape":[2],"data_offsets":[0,8]}}"#, 8), "header")]
fn truncated_and_lying_headers(#[case] bytes: Vec<u8>, #[case] says: &str) {
    let dir = copy_of(&fixture("llama"));
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let text = load_error(dir.path());
    assert_says(&text, &[says]);
    assert!(text.contains("model.safetensors") || says == "is missing", "{text}");
}

fn header(json: &str, data: usize) -> Vec<u8> {
    [(json.len() as u64).to_le_bytes().as_slice(), json.as_bytes(), &vec![0; data]].concat()
}

/// Of a file that was not copied to its end, and of one that something was added to.
#[rstest]
#[case(-1)]
#[case(7)]
fn a_file_of_another_length(#[case] more: i64) {
    let dir = copy_of(&demo());
    let path = dir.path().join("model.safetensors");
    let len = path.metadata().unwrap().len();
    let found = len.checked_add_signed(more).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(found).unwrap();
    let numbers = format!("its tensors end at byte {len}, the file has {found}");
    assert_says(&load_error(dir.path()), &["model.safetensors", &numbers, "download the file again"]);
}

#[test]
fn shards() {
    let dir = copy_of(&fixture("llama_sharded"));
    let index = dir.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let map: Value = serde_json::from_str(&text).unwrap();
    let shard = map["weight_map"].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();

    fs::rename(dir.path().join(&shard), dir.path().join("elsewhere")).unwrap();
    assert_says(&load_error(dir.path()), &["index.json", &format!("shard `{shard}`"), "missing"]);
    fs::rename(dir.path().join("elsewhere"), dir.path().join(&shard)).unwrap();

    fs::write(&index, text.replacen(&shard, "../config.json", 1)).unwrap();
    assert_says(&load_error(dir.path()), &["shard `../config.json`", "missing"]);
    fs::write(&index, r#"{"weight_map": 3}"#).unwrap();
    assert_says(&load_error(dir.path()), &["index.json", "not JSON as expected"]);
    fs::remove_file(&index).unwrap();
    assert_says(&load_error(dir.path()), &["no checkpoint here", "model.safetensors.index.json"]);
}

/// NaN and infinity are traced to the layer that made them.
#[rstest]
#[case("model.layers.1.mlp.down_proj.weight", f32::NAN, "layer 1")]
#[case("model.layers.0.input_layernorm.weight", f32::INFINITY, "layer 0")]
#[case("model.embed_tokens.weight", f32::NAN, "the embedding")]
#[case("lm_head.weight", f32::NAN, "the head")]
fn not_a_number(#[case] tensor: &str, #[case] value: f32, #[case] place: &str) {
    fn error<B: Backend>(dir: &Path, ram: Budget, dtype: RunDtype) -> String {
        let mut model = Model::<B>::builder(dir).ram(ram).dtype(dtype).load().unwrap();
        let options = GenerateOptions { max_tokens: Some(3), ..Default::default() };
        line(model.generate(vec![1u32, 2, 3], &options).unwrap_err())
    }
    let dir = copy_of(&fixture("llama"));
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = metadata.info(tensor).unwrap().data_offsets;
    bytes[8 + header + start..8 + header + end].as_chunks_mut().0.fill(value.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    for (ram, dtype) in [(Budget::Free, RunDtype::Float32), (Budget::Min, RunDtype::Bfloat16)] {
        let text = error::<Flex>(dir.path(), ram, dtype);
        assert_says(&text, &[&format!("appears first in {place}"), "check the checkpoint"]);
        assert_eq!(text.contains("--dtype float32"), dtype != RunDtype::Float32, "{text}");
    }
}
