//! What a user can feed in wrongly gives one line that names file, tensor, expected and found.

use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use leveret::models::Architecture;
use leveret::models::registry::{self, Visitor};
use leveret::{Backend, Budget, GenerateOptions, Model, Transfer};
use rstest::rstest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{copy_of, demo, fixture, greedy};

/// The error of loading a checkpoint.
fn load_error(dir: &Path) -> String {
    line(Model::<Flex>::from_pretrained(dir).expect_err("the checkpoint is spoilt"))
}

fn line(error: leveret::Error) -> String {
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn assert_says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

/// Changes one field of a copy's config.json; `null` takes it out.
fn with_config(name: &str, field: &str, value: Value) -> TempDir {
    let dir = copy_of(&fixture(name));
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    match value {
        Value::Null => drop(config.as_object_mut().unwrap().remove(field)),
        value => config[field] = value,
    }
    fs::write(&path, config.to_string()).unwrap();
    dir
}

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

const UP: &str = "model.layers.1.mlp.up_proj.weight";

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

/// Requests beyond any memory are refused, not tried.
#[test]
fn more_memory_than_there_is() {
    let dir = with_config("llama", "max_position_embeddings", 2_000_000_000.into());
    for ram in [Budget::Min, Budget::Free, Budget::Bytes(u64::MAX)] {
        let mut model = Model::<Flex>::builder(dir.path()).ram(ram).load().unwrap();
        let error = line(model.generate(vec![1u32, 2], &greedy(1_999_999_990)).unwrap_err());
        assert_says(&error, &["is too small: the least is", "KV cache"]);
        assert!(model.plan(usize::MAX, usize::MAX, usize::MAX).is_err());
    }
}

#[test]
fn unknown_dtype() {
    let dir = with_tensors("llama", |name, shape| {
        let dtype = if name == UP { Dtype::I8 } else { Dtype::F32 };
        Some((name.to_owned(), shape.to_vec(), dtype))
    });
    assert_says(&load_error(dir.path()), &["model.safetensors", UP, "dtype I8", "expected F32, F16 or BF16"]);
}

#[test]
fn an_untied_model_without_a_head() {
    let dir = with_config("qwen2", "tie_word_embeddings", false.into());
    assert_says(&load_error(dir.path()), &["lm_head.weight", "is missing", "tie_word_embeddings"]);
    let dir = with_config("llama_gqa_bf16", "tie_word_embeddings", Value::Null);
    assert_says(&load_error(dir.path()), &["lm_head.weight", "is missing"]);
}

#[test]
fn tied_in_the_text_config_alone() {
    let dir = copy_of(&fixture("llama_gqa_bf16"));
    let path = dir.path().join("config.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    text["tie_word_embeddings"] = true.into();
    fs::write(&path, serde_json::json!({ "model_type": "some_vision_model", "text_config": text }).to_string())
        .unwrap();
    let mut nested = Model::<Flex>::from_pretrained(dir.path()).unwrap();
    let mut plain = Model::<Flex>::from_pretrained(fixture("llama_gqa_bf16")).unwrap();
    assert_eq!(nested.logits(&[1, 2, 3], &[]).unwrap(), plain.logits(&[1, 2, 3], &[]).unwrap());
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

#[test]
fn a_file_cut_short_after_its_header() {
    let dir = copy_of(&fixture("llama"));
    let path = dir.path().join("model.safetensors");
    let len = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
    assert_says(
        &load_error(dir.path()),
        &["model.safetensors", "broken safetensors header", "download the file again"],
    );
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

#[rstest]
#[case("model_type", "lama".into(), "unknown model_type `lama` (nearest: `llama`); supported are llama, mistral")]
#[case("model_type", Value::Null, "missing field `model_type`")]
#[case("hidden_size", "wide".into(), "`hidden_size`: invalid type: string \"wide\", expected a whole number")]
#[case("hidden_size", (-1).into(), "`hidden_size`: invalid value: integer `-1`")]
#[case("num_hidden_layers", 4_000_000_000u64.into(), "`num_hidden_layers` is 4000000000, expected a positive number up to 10000")]
#[case("max_position_embeddings", u64::MAX.into(), "`max_position_embeddings` is 18446744073709551615")]
#[case("rope_parameters", serde_json::json!({"full_attention": {"rope_theta": 5.0}}), "`rope_parameters` is given for each kind")]
#[case("eos_token_id", "end".into(), "expected a token id or a list of token ids in eos_token_id")]
#[case("hidden_size", 0.into(), "`hidden_size` is 0, expected a positive number")]
#[case("num_attention_heads", 0.into(), "`num_attention_heads` is 0")]
#[case("num_attention_heads", 5.into(), "`hidden_size` is 48, expected a multiple of num_attention_heads = 5")]
#[case("num_key_value_heads", 3.into(), "`num_key_value_heads` is 3, expected a divisor of num_attention_heads = 4")]
#[case("rms_norm_eps", (-1).into(), "`rms_norm_eps` is -1, expected a number from 0 to 1")]
#[case("head_dim", 8.into(), "has shape [48, 48], expected [32, 48]")]
#[case("vocab_size", 64.into(), "has shape [128, 48], expected [64, 48]")]
#[case("hidden_act", "swoosh".into(), "`hidden_act`: unknown variant `swoosh`")]
#[case("rope_scaling", serde_json::json!({"rope_type": "spiral"}), "unknown variant `spiral`, expected one of `default`")]
#[case("hidden_act", 3.into(), "`hidden_act`: invalid type: integer `3`, expected a string")]
#[case("rope_scaling", serde_json::json!({"type": "yarn"}), "`rope_scaling.factor` is missing")]
#[case("rope_scaling", serde_json::json!({"type": "linear"}), "`rope_scaling.factor` is missing")]
#[case("rope_theta", (-1).into(), "`rope_theta` is -1")]
#[case("clip_qkv", (-1).into(), "`clip_qkv` is -1, expected a number from 0 on, or null")]
#[case("no_rope_layer_interval", 0.into(), "`no_rope_layer_interval` is 0, expected a positive number")]
#[case("sliding_window_pattern", 0.into(), "`sliding_window_pattern` is 0, expected a positive number")]
#[case("rope_scaling", serde_json::json!({"type": "dynamic"}), "expected a number, for dynamic")]
#[case("tie_word_embeddings", "yes".into(), "tie_word_embeddings is \"yes\", expected true or false")]
#[case("torch_dtype", "int3".into(), "dtype is \"int3\", expected float32, bfloat16 or float16")]
#[case("quantization_config", serde_json::json!({"quant_method": "gptq"}), "asks for `gptq`, expected none")]
fn config(#[case] field: &str, #[case] value: Value, #[case] says: &str) {
    let text = load_error(with_config("llama", field, value).path());
    assert_says(&text, &[says]);
    assert!(text.contains("config.json") || text.contains("model.safetensors"), "{text}");
}

/// What cannot be divided by is refused where scores are divided by it, and is nobody's business elsewhere.
#[test]
fn divisors_that_are_none() {
    let divisors =
        [("attn_logit_softcapping", -50.0), ("final_logit_softcapping", 0.0), ("query_pre_attn_scalar", 0.0)];
    for (field, divisor) in divisors {
        let text = load_error(with_config("gemma2", field, divisor.into()).path());
        assert_says(&text, &["config.json", field, "expected a number from 0.001"]);
        let llama = with_config("llama", field, divisor.into());
        assert!(Model::<Flex>::builder(llama.path()).load().is_ok(), "{field}");
    }
}

/// Of a file that was not copied to its end, and of one that something was added to.
#[rstest]
#[case(-100)]
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

#[rstest]
#[case("config.json", "{", "config.json")]
#[case("config.json", "[]", "config.json")]
#[case("generation_config.json", r#"{"eos_token_id": "end"}"#, "generation_config.json")]
#[case("tokenizer.json", r#"{"version": "1.0"}"#, "tokenizer.json")]
#[case("tokenizer.json", "\u{0}", "tokenizer.json")]
#[case("chat_template.jinja", "{% for %}", "chat_template.jinja")]
#[case("tokenizer_config.json", "{", "tokenizer_config.json")]
fn broken_text_files(#[case] file: &str, #[case] content: &str, #[case] says: &str) {
    let dir = copy_of(&demo());
    fs::write(dir.path().join(file), content).unwrap();
    let text = load_error(dir.path());
    assert_says(&text, &[says]);
    // The whole file is no field.
    assert!(!text.contains("`.`"), "{text}");
}

#[rstest]
fn a_file_that_changes_while_running(
    #[values(Transfer::Sync, Transfer::Async)] transfer: Transfer,
    #[values("shortened", "written", "removed")] how: &str,
) {
    let dir = copy_of(&fixture("llama"));
    let path = dir.path().join("model.safetensors");
    let mut model = Model::<Flex>::builder(dir.path()).ram(Budget::Min).transfer(transfer).load().unwrap();
    let first = model.logits(&[1, 2, 3], &[]).unwrap();
    match how {
        "shortened" => fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap(),
        "written" => {
            std::thread::sleep(std::time::Duration::from_millis(20));
            fs::write(&path, fs::read(fixture("llama_extra").join("model.safetensors")).unwrap()).unwrap();
        }
        _ => {
            // An open file lives on without its name: the weights are what they were.
            fs::remove_file(&path).unwrap();
            assert_eq!(model.logits(&[1, 2, 3], &[]).unwrap(), first);
            return;
        }
    }
    // What was read before the change may still be used, once; nothing hangs.
    let errors = (0..3).filter_map(|_| model.logits(&[1, 2, 3], &[]).err()).map(line);
    let errors: Vec<_> = errors.collect();
    assert!(errors.len() >= 2, "{errors:?}");
    errors.iter().for_each(|error| assert_says(error, &["model.safetensors", "changed"]));
}

#[test]
fn ids_and_prompts() {
    let mut model = Model::<Flex>::from_pretrained(fixture("llama")).unwrap();
    let mut error = |ids: Vec<u32>| line(model.generate(ids, &greedy(1)).unwrap_err());
    assert_says(&error(vec![1, 128]), &["token id 128 is out of range", "128 entries"]);
    assert_says(&error(vec![]), &["the prompt is empty"]);
    assert_says(&error(vec![1; 2049]), &["2049", "there is room for 2048"]);
}

/// A pipe in place of a file would be waited for, for ever.
#[cfg(unix)]
#[rstest]
#[case("config.json")]
#[case("generation_config.json")]
#[case("tokenizer.json")]
#[case("tokenizer_config.json")]
#[case("chat_template.jinja")]
#[case("model.safetensors")]
fn a_pipe_in_place_of_a_file(#[case] name: &str) {
    let dir = copy_of(&demo());
    let path = dir.path().join(name);
    let _ = fs::remove_file(&path);
    std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert_says(&load_error(dir.path()), &[name, "not a regular file"]);
}

#[test]
fn a_budget_below_one_unit() {
    let mut model = Model::<Flex>::builder(fixture("llama")).ram(Budget::Bytes(1000)).load().unwrap();
    let error = line(model.generate(vec![1u32, 2], &greedy(1)).unwrap_err());
    assert_says(&error, &["a budget of 1000 bytes is too small", "largest unit", "KV cache", "activations"]);
}

/// NaN and infinity are traced to the layer that made them.
#[rstest]
#[case("model.layers.1.mlp.down_proj.weight", f32::NAN, "layer 1")]
#[case("model.layers.0.input_layernorm.weight", f32::INFINITY, "layer 0")]
#[case("model.embed_tokens.weight", f32::NAN, "the embedding")]
#[case("lm_head.weight", f32::NAN, "the head")]
fn not_a_number(#[case] tensor: &str, #[case] value: f32, #[case] place: &str) {
    fn error<B: Backend>(dir: &Path, ram: Budget) -> String {
        let mut model = Model::<B>::builder(dir).ram(ram).load().unwrap();
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
    for ram in [Budget::Free, Budget::Min] {
        assert_says(&error::<Flex>(dir.path(), ram), &[&format!("appears first in {place}")]);
    }
}

/// Whatever stands in a field of any family's config, it is refused or a layer can be made of it.
#[rstest]
fn any_field_of_any_family(#[files("tests/fixtures/*/config.json")] path: PathBuf) {
    struct Describe;
    impl Visitor for Describe {
        type Output = ();
        fn visit<A: Architecture>(self, architecture: A) {
            let (dims, device) = (architecture.dims(), Default::default());
            let _ = architecture.layer::<Flex>(0, &device);
            let _ = architecture.layer::<Flex>(dims.num_layers - 1, &device);
            let _ = architecture.head::<Flex>(1, true, &device);
            let _ = (architecture.layer_rope(0).inverse_frequencies(2, 1), architecture.sliding_window(0));
            let _ = (architecture.state(0), architecture.state(dims.num_layers - 1));
            let _ = (architecture.weight_map(), architecture.names(), architecture.recomputes_beyond());
        }
    }

    let config: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let fields = config.as_object().unwrap().iter().flat_map(|(name, value)| {
        let inner = value.as_object().into_iter().flatten().map(move |(inner, _)| format!("/{name}/{inner}"));
        std::iter::once(format!("/{name}")).chain(inner)
    });
    let numbers = [json!(0), json!(1), json!(3), json!(-1), json!(0.5), json!(1e300), json!(u64::MAX), json!(1 << 20)];
    let others = [json!(null), json!("x"), json!(true), json!(false), json!([]), json!([0]), json!({})];
    for field in fields {
        for value in numbers.iter().chain(&others) {
            let mut config = config.clone();
            *config.pointer_mut(&field).unwrap() = value.clone();
            let _ = registry::open(&config.to_string(), Describe);
        }
    }
}
