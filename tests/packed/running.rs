use std::path::{Path, PathBuf};

use burn::backend::Flex;
use leveret::models::weight::Format;
use leveret::{Backend, Budget, Model, RunDtype};
use rstest::rstest;
use safetensors::Dtype;
use serde_json::json;
use tempfile::TempDir;

use super::{config, pack, packed, tensors, unpacked, write};
use crate::support::{demo, fixture, greedy, load, tiny};

const PROMPT: [u32; 9] = [3, 14, 15, 92, 65, 35, 89, 79, 32];

fn logits<B: Backend>(dir: &Path, ram: Budget) -> Vec<f32> {
    let mut model = Model::<B>::builder(dir).dtype(RunDtype::Float32).ram(ram).load().unwrap();
    model.logits(&PROMPT, &[4, 1]).unwrap().concat()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A packed fixture; none where groups fill no matrix of it.
fn some_packed(dir: &Path, format: Format) -> Option<TempDir> {
    let out = tempfile::tempdir().unwrap();
    match pack(dir, out.path(), format) {
        Ok(_) => Some(out),
        Err(error) => {
            assert!(error.to_string().contains("no linear layer has rows"), "{error}");
            None
        }
    }
}

/// Packed weights are what they stand for: resident and streamed, on every family.
#[rstest]
fn packed_equals_unpacked(
    #[files("tests/fixtures/*/reference.safetensors")] reference: PathBuf,
    #[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format,
) {
    let Some(dir) = some_packed(reference.parent().unwrap(), format) else { return };
    let want = logits::<Flex>(unpacked(dir.path(), format).path(), Budget::Free);
    let resident = logits::<Flex>(dir.path(), Budget::Free);
    let difference = largest_difference(&resident, &want);
    assert!(difference <= 1e-3, "{difference}");
    assert_eq!(logits::<Flex>(dir.path(), Budget::Min), resident);
    assert_eq!(load(dir.path()).format(), Some(format));
    #[cfg(feature = "ndarray")]
    for ram in [Budget::Free, Budget::Min] {
        let difference = largest_difference(&logits::<burn::backend::NdArray>(dir.path(), ram), &want);
        assert!(difference <= 1e-3, "{difference}");
    }
}

#[rstest]
fn packed_streamed_equals_resident(#[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format) {
    let dir = packed(&demo(), format);
    let tokens = |ram| {
        let mut model = Model::<Flex>::builder(dir.path()).dtype(RunDtype::Float32).ram(ram).load().unwrap();
        let (completion, stats) = model.generate("The mansion in Saville Row", &greedy(12)).unwrap();
        let weights = model.checkpoint_bytes();
        (completion.tokens, stats.resident_units == stats.units, stats.prefill.read_bytes <= weights)
    };
    let (resident, streamed) = (tokens(Budget::Free), tokens(Budget::Min));
    assert_eq!(resident.0, streamed.0);
    assert_eq!((resident.1, streamed.1, streamed.2), (true, false, true));
}

#[rstest]
fn packed_batch_equals_single(#[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format) {
    let dir = packed(&fixture("qwen3"), format);
    let mut model = load(dir.path());
    let prompts: Vec<Vec<u32>> = vec![vec![5], (1..30).collect(), vec![9, 8, 7]];
    let (batch, _) = model.generate_batch(prompts.clone(), &greedy(8)).unwrap();
    for (prompt, together) in prompts.into_iter().zip(batch) {
        assert_eq!(model.generate(prompt, &greedy(8)).unwrap().0, together);
    }
}

/// A head is cut where blocks of scales end, and its last part is what is left.
#[rstest]
fn packed_heads_stream_in_parts(#[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format) {
    let source = tempfile::tempdir().unwrap();
    tiny(5003).write(source.path(), 1).unwrap();
    let dir = packed(source.path(), format);
    let model = Model::<Flex>::builder(dir.path()).ram(Budget::Min).load().unwrap();
    let heads: Vec<_> = model.units().into_iter().filter(|unit| unit.starts_with("the head")).collect();
    assert!(heads.len() > 4 && heads.last().unwrap().ends_with(" to 5003)"), "{heads:?}");
    assert_eq!(logits::<Flex>(dir.path(), Budget::Min), logits::<Flex>(dir.path(), Budget::Free));
    let want = logits::<Flex>(unpacked(dir.path(), format).path(), Budget::Free);
    assert!(largest_difference(&logits::<Flex>(dir.path(), Budget::Min), &want) <= 1e-3);
}

/// As the hub has them: scales in bf16, matrices that were not converted, and more in the config than is needed.
#[test]
fn fp8_of_the_hub() {
    let dir = packed(&demo(), Format::Fp8);
    let mut config = config(dir.path());
    config["quantization_config"] = json!({
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": ["lm_head"],
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    });
    let (mut short, mut wide) = (tensors(dir.path()), tensors(dir.path()));
    let dense = tensors(unpacked(dir.path(), Format::Fp8).path());
    for all in [&mut short, &mut wide] {
        all.insert("lm_head.weight".to_owned(), dense["lm_head.weight"].clone());
        all.remove("lm_head.weight_scale_inv").unwrap();
    }
    for (name, scales) in short.iter_mut().filter(|(name, _)| name.ends_with("_scale_inv")) {
        let upper: Vec<_> = scales.bytes.as_chunks::<4>().0.iter().map(|bytes| [bytes[2], bytes[3]]).collect();
        wide.get_mut(name).unwrap().bytes = upper.iter().flat_map(|upper| [0, 0, upper[0], upper[1]]).collect();
        (scales.dtype, scales.bytes) = (Dtype::BF16, upper.concat());
    }
    let of = |all: &_| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), all, &config);
        let resident = logits::<Flex>(dir.path(), Budget::Free);
        assert_eq!(logits::<Flex>(dir.path(), Budget::Min), resident);
        #[cfg(feature = "ndarray")]
        assert!(largest_difference(&logits::<burn::backend::NdArray>(dir.path(), Budget::Free), &resident) <= 1e-3);
        resident
    };
    assert_eq!(of(&short), of(&wide));
    assert!(largest_difference(&of(&short), &logits::<Flex>(dir.path(), Budget::Free)) < 0.5);
}

/// Less bits cost more, and none of the formats much.
#[test]
fn packed_models_stay_near() {
    let text = std::fs::read_to_string(fixture("demo_text.txt")).unwrap();
    let text = &text[..text.floor_char_boundary(2000)];
    for (format, most) in [(Format::Int8, 0.001), (Format::Fp8, 0.02), (Format::Int4, 0.1)] {
        let dir = packed(&demo(), format);
        let comparison = load(dir.path()).compare(&mut load(&demo()), text, 160).unwrap();
        assert!(comparison.mean_kl > 0.0 && comparison.mean_kl < most, "{format}: {comparison:?}");
        assert!(comparison.mean_kl < comparison.max_kl && comparison.same_argmax > 0.85, "{format}: {comparison:?}");
        let ratio = comparison.perplexity / comparison.reference_perplexity;
        assert!((0.9..1.1).contains(&ratio), "{format}: {comparison:?}");
    }
}
