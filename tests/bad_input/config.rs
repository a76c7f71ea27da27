use std::fs;
use std::path::PathBuf;

use burn::backend::Flex;
use leveret::Model;
use leveret::models::Architecture;
use leveret::models::registry::{self, Visitor};
use rstest::rstest;
use serde_json::{Value, json};

use super::{assert_says, load_error, with_config};
use crate::support::{copy_of, demo, fixture};

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

#[test]
fn an_untied_model_without_a_head() {
    let dir = with_config("qwen2", "tie_word_embeddings", false.into());
    assert_says(&load_error(dir.path()), &["lm_head.weight", "is missing", "tie_word_embeddings"]);
    let dir = with_config("llama_gqa_bf16", "tie_word_embeddings", Value::Null);
    assert_says(&load_error(dir.path()), &["lm_head.weight", "is missing"]);
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
