use std::collections::BTreeMap;

use burn::backend::Flex;
use leveret::Model;
use leveret::models::weight::Format;
use rstest::rstest;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::{Stored, config, packed, tensors, write};
use crate::support::demo;

/// The error of loading a packed checkpoint that was spoilt.
fn error(format: Format, spoil: impl FnOnce(&mut BTreeMap<String, Stored>, &mut Value)) -> String {
    let (dir, spoilt) = (packed(&demo(), format), tempfile::tempdir().unwrap());
    let (mut tensors, mut config) = (tensors(dir.path()), config(dir.path()));
    spoil(&mut tensors, &mut config);
    write(spoilt.path(), &tensors, &config);
    let text = Model::<Flex>::from_pretrained(spoilt.path()).expect_err("the checkpoint is spoilt").to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn assert_says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

const UP: &str = "model.layers.1.mlp.up_proj.weight";

#[rstest]
#[case(Format::Int8, "_scale")]
#[case(Format::Int4, "_scale")]
#[case(Format::Fp8, "_scale_inv")]
fn missing_scales(#[case] format: Format, #[case] suffix: &str) {
    let name = format!("{UP}{suffix}");
    let text = error(format, |tensors, _| drop(tensors.remove(&name).unwrap()));
    let packed = format!("is packed as {format} and needs it");
    assert_says(
        &text,
        &["model.safetensors", &format!("tensor `{name}` is missing"), UP, &packed, "pack the checkpoint again"],
    );
}

#[test]
fn scales_without_codes() {
    let text = error(Format::Int8, |tensors, _| {
        let codes = tensors.get_mut(UP).unwrap();
        codes.bytes = codes.bytes.repeat(4);
        codes.dtype = Dtype::F32;
    });
    assert_says(&text, &["model.safetensors", &format!("`{UP}_scale` has no place in this model")]);
}

#[rstest]
#[case("codes", UP, Dtype::U8, "dtype U8, expected I8, F32, F16 or BF16")]
#[case("scales", "model.layers.1.mlp.up_proj.weight_scale", Dtype::F16, "dtype F16, expected BF16")]
#[case("a norm", "model.norm.weight", Dtype::I16, "dtype I16, expected F32, F16 or BF16")]
#[case("the embedding", "model.embed_tokens.weight", Dtype::I16, "dtype I16, expected F32, F16 or BF16")]
#[case("ragged", "model.layers.0.mlp.down_proj.weight", Dtype::I16, "dtype I16, expected F32, F16 or BF16")]
fn wrong_dtypes(#[case] _what: &str, #[case] name: &str, #[case] dtype: Dtype, #[case] says: &str) {
    let text = error(Format::Int8, |tensors, _| tensors.get_mut(name).unwrap().dtype = dtype);
    assert_says(&text, &["model.safetensors", &format!("`{name}`"), says, "quantization_config"]);
}

/// Scales in other floats than the hub's usual ones are not guessed at.
#[test]
fn wrong_scales_of_fp8() {
    let name = format!("{UP}_scale_inv");
    let text = error(Format::Fp8, |tensors, _| {
        let scales = tensors.get_mut(&name).unwrap();
        (scales.dtype, scales.bytes) = (Dtype::F16, scales.bytes[scales.bytes.len() / 2..].to_vec());
    });
    assert_says(&text, &["model.safetensors", &format!("`{name}`"), "dtype F16, expected F32 or BF16"]);
}

#[rstest]
#[case(UP, vec![192, 528], "has shape [192, 528], expected [528, 192]")]
#[case("model.layers.1.mlp.up_proj.weight_scale", vec![6, 528], "has shape [6, 528], expected [528, 6]")]
fn wrong_shapes(#[case] name: &str, #[case] shape: Vec<usize>, #[case] says: &str) {
    let text = error(Format::Int8, |tensors, _| tensors.get_mut(name).unwrap().shape = shape);
    assert_says(&text, &["model.safetensors", &format!("`{name}`"), says]);
}

/// The config and the tensors have to say the same.
#[rstest]
#[case(json!({"quant_method": "leveret", "bits": 4, "format": "int4", "group_size": 32}), "dtype I8, expected U8, F32, F16 or BF16")]
#[case(json!({"quant_method": "leveret", "bits": 4, "format": "int8"}), "has bits = 4, expected 8")]
#[case(json!({"quant_method": "leveret", "bits": 8, "format": "int8", "group_size": 64}), "has group_size = 64, expected 32")]
#[case(json!({"quant_method": "leveret"}), "has format = null, expected \"int8\" or \"int4\"")]
#[case(json!({"quant_method": "fp8"}), "has weight_block_size = null, expected [128,128]")]
#[case(json!({"quant_method": "awq", "bits": 4}), "asks for `awq`, expected none, `fp8` or `leveret`")]
#[case(json!({}), "has no quant_method, expected none, `fp8` or `leveret`")]
#[case(Value::Null, "dtype I8, expected F32, F16 or BF16")]
fn another_config(#[case] quantization: Value, #[case] says: &str) {
    assert_says(&error(Format::Int8, |_, config| config["quantization_config"] = quantization), &[says]);
}
