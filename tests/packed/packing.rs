use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use burn::backend::Flex;
use leveret::models::weight::Format;
use leveret::{Budget, Model, Pack, RunDtype};
use rstest::rstest;
use safetensors::Dtype;
use serde_json::json;

use super::{Stored, config, pack, packed, tensors, write};
use crate::support::{copy_of, demo, fixture, load};

const INDEX: &str = "model.safetensors.index.json";

/// The files of a directory with their bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn modified(dir: &Path) -> BTreeMap<String, SystemTime> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let time = |entry: &fs::DirEntry| entry.metadata().unwrap().modified().unwrap();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), time(&entry))).collect()
}

/// Matrices of linear layers and of the head are packed as the format says, all else is as it was.
#[rstest]
fn what_is_packed_and_what_is_not(#[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format) {
    let mut source = tensors(&demo());
    let extra = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
    source.insert(extra, Stored { dtype: Dtype::F64, shape: vec![2], bytes: vec![7; 16] });
    let dir = copy_of(&demo());
    write(dir.path(), &source, &config(&demo()));
    let out = tempfile::tempdir().unwrap();
    let report = pack(dir.path(), out.path(), format).unwrap();
    let mut left = tensors(out.path());
    // The head, which is tied, has become a tensor of its own.
    let head = source["model.embed_tokens.weight"].clone();
    for (name, before) in source.iter().chain([(&"lm_head.weight".to_owned(), &head)]) {
        let packs = (name.contains("_proj") || name.starts_with("lm_head"))
            && format.suits(before.shape.as_slice().try_into().unwrap());
        if !packs {
            assert_eq!(left.remove(name).as_ref(), Some(before), "{name}");
            continue;
        }
        for part in format.parts(before.shape.as_slice().try_into().unwrap()) {
            let after = left.remove(&format!("{name}{}", part.suffix)).unwrap();
            assert_eq!((format!("{:?}", after.dtype).as_str(), after.shape.as_slice()), (part.stored, &part.shape[..]));
        }
    }
    assert!(left.is_empty(), "{:?}", left.keys());
    // Rows of down_proj are 528 long: no multiple of 32.
    let ragged = 4;
    assert_eq!((report.dense_matrices, report.packed_matrices), (ragged, 29 - ragged));
    let bytes: usize = tensors(out.path()).values().map(|tensor| tensor.bytes.len()).sum();
    assert_eq!(report.bytes, bytes as u64);
    let (bits, error) = match format {
        Format::Int8 => (8.5, 0.002..0.01),
        Format::Int4 => (4.5, 0.02..0.1),
        Format::Fp8 => (8.0, 0.01..0.04),
    };
    assert!((report.bits_per_weight - bits).abs() < 0.05 && error.contains(&report.relative_error), "{report:?}");

    let mut expected = config(&demo());
    expected["quantization_config"] = config(out.path())["quantization_config"].clone();
    assert_eq!(config(out.path()), expected);
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"] {
        assert_eq!(fs::read(out.path().join(name)).unwrap(), fs::read(dir.path().join(name)).unwrap());
    }
}

/// Tied embeddings that were saved under the head's name, and names without a prefix.
#[test]
fn other_names() {
    let head_only = tempfile::tempdir().unwrap();
    let mut renamed = tensors(&demo());
    let embedding = renamed.remove("model.embed_tokens.weight").unwrap();
    renamed.insert("lm_head.weight".to_owned(), embedding);
    write(head_only.path(), &renamed, &config(&demo()));

    let bare = tempfile::tempdir().unwrap();
    let strip = |(name, tensor): (String, Stored)| (name.trim_start_matches("model.").to_owned(), tensor);
    write(bare.path(), &tensors(&demo()).into_iter().map(strip).collect(), &config(&demo()));

    let want = load(packed(&demo(), Format::Int8).path()).logits(&[1, 2, 3], &[]).unwrap();
    for dir in [head_only, bare] {
        let out = packed(dir.path(), Format::Int8);
        assert_eq!(load(out.path()).logits(&[1, 2, 3], &[]).unwrap(), want);
    }
}

/// Matrices that a checkpoint has in one tensor are packed as one, and each is found in it again.
#[rstest]
#[case("phi3", "model.layers.0.self_attn.qkv_proj.weight")]
#[case("gpt_neox", "gpt_neox.layers.0.attention.query_key_value.weight")]
#[case("chatglm", "transformer.encoder.layers.0.mlp.dense_h_to_4h.weight")]
fn fused_matrices(#[case] name: &str, #[case] tensor: &str) {
    let dir = fixture(name);
    let out = packed(&dir, Format::Int8);
    assert!(tensors(out.path()).contains_key(&format!("{tensor}_scale")), "{tensor} is packed");
    let float32 = |dir: &Path| Model::<Flex>::builder(dir).dtype(RunDtype::Float32).load().unwrap();
    let report = float32(out.path()).verify(&dir.join("reference.safetensors")).unwrap();
    assert!(report.prompt.min_cosine > 0.99, "{report:#?}");
}

/// Shards are as large as they may be, and a layer that fits one is not torn.
#[test]
fn shards_hold_whole_layers() {
    let (one, many) = (packed(&demo(), Format::Int8), tempfile::tempdir().unwrap());
    let layer: usize = {
        let of = tensors(one.path());
        of.iter().filter(|(name, _)| name.starts_with("model.layers.1.")).map(|(_, tensor)| tensor.bytes.len()).sum()
    };
    let most = 2 * layer as u64 + 1000;
    let report = Pack { max_shard_size: most, ..Pack::new(Format::Int8) }.write::<Flex>(&demo(), many.path()).unwrap();
    assert!(report.shards > 1, "{report:?}");
    assert_eq!(tensors(many.path()), tensors(one.path()));
    let index: serde_json::Value = serde_json::from_slice(&fs::read(many.path().join(INDEX)).unwrap()).unwrap();
    for layer in 0..4 {
        let name = |(name, _): &(&String, &serde_json::Value)| name.starts_with(&format!("model.layers.{layer}."));
        let mut shards: Vec<_> = index["weight_map"].as_object().unwrap().iter().filter(name).map(|of| of.1).collect();
        shards.dedup();
        assert_eq!(shards.len(), 1, "layer {layer}");
    }
    for shard in 1..=report.shards {
        let name = format!("model-{shard:05}-of-{:05}.safetensors", report.shards);
        assert!(fs::metadata(many.path().join(name)).unwrap().len() < most + 10_000);
    }
    // A single tensor larger than a shard has one of its own.
    let tiny = tempfile::tempdir().unwrap();
    let report = Pack { max_shard_size: 1, ..Pack::new(Format::Int8) }.write::<Flex>(&demo(), tiny.path()).unwrap();
    assert_eq!(report.shards, 1 + 4 * 9 + 2);
    let logits = |dir: &Path, ram| {
        let mut model = Model::<Flex>::builder(dir).ram(ram).load().unwrap();
        model.logits(&[1, 2, 3], &[]).unwrap()
    };
    assert_eq!(logits(many.path(), Budget::Min), logits(one.path(), Budget::Free));
    assert_eq!(logits(tiny.path(), Budget::Min), logits(one.path(), Budget::Free));
}

/// What an ended run has left is gone on from, and gives the same bytes as a run that nothing disturbed.
#[test]
fn an_ended_run_is_gone_on_from() {
    let source = copy_of(&demo());
    let job = Pack { max_shard_size: 500_000, ..Pack::new(Format::Int8) };
    let (whole, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let undisturbed = job.write::<Flex>(source.path(), whole.path()).unwrap();
    assert!(undisturbed.shards > 3 && undisturbed.kept_shards == 0, "{undisturbed:?}");
    job.write::<Flex>(source.path(), out.path()).unwrap();
    let shard = |index: usize| format!("model-{index:05}-of-{:05}.safetensors", undisturbed.shards);
    let times = modified(out.path());

    // The index and config were not written yet, one shard was being written, another is torn, a third spoilt.
    fs::remove_file(out.path().join("config.json")).unwrap();
    fs::remove_file(out.path().join(INDEX)).unwrap();
    fs::remove_file(out.path().join(shard(4))).unwrap();
    fs::write(out.path().join(shard(4) + ".partial"), [1; 5000]).unwrap();
    let tear = |name: String, len| {
        let file = fs::OpenOptions::new().write(true).open(out.path().join(name)).unwrap();
        file.set_len(len).unwrap();
    };
    tear(shard(2), fs::metadata(out.path().join(shard(2))).unwrap().len() - 1);
    tear(shard(3), 9);
    assert!(Model::<Flex>::from_pretrained(out.path()).is_err(), "what is not whole is no checkpoint");

    let resumed = job.write::<Flex>(source.path(), out.path()).unwrap();
    assert_eq!(files(out.path()), files(whole.path()));
    assert_eq!(resumed.kept_shards, undisturbed.shards - 3);
    assert_eq!(resumed.relative_error, undisturbed.relative_error);
    assert_eq!(modified(out.path())[&shard(1)], times[&shard(1)]);

    // Another call finds nothing to do.
    let times = modified(out.path());
    assert_eq!(job.write::<Flex>(source.path(), out.path()).unwrap().kept_shards, undisturbed.shards);
    assert_eq!(modified(out.path()), times);

    // A shard that is lost later is made again.
    fs::remove_file(out.path().join(shard(1))).unwrap();
    job.write::<Flex>(source.path(), out.path()).unwrap();
    assert_eq!(files(out.path()), files(whole.path()));
}

/// Two runs do not write into each other's files.
#[cfg(unix)]
#[test]
fn a_directory_is_packed_into_by_one_run_at_a_time() {
    let out = tempfile::tempdir().unwrap();
    let mut refused = None;
    let tell = |_: &leveret::PackProgress<'_>| {
        refused.get_or_insert_with(|| pack(&demo(), out.path(), Format::Int8).unwrap_err().to_string());
    };
    Pack::new(Format::Int8).write_and_tell::<Flex>(&demo(), out.path(), tell).unwrap();
    assert!(refused.unwrap().contains("another run is packing into it"));
    Model::<Flex>::from_pretrained(out.path()).unwrap();
}

/// A source that has changed since is packed anew.
#[test]
fn shards_of_an_older_source_are_not_kept() {
    let (source, out) = (copy_of(&demo()), tempfile::tempdir().unwrap());
    pack(source.path(), out.path(), Format::Int8).unwrap();
    fs::remove_file(out.path().join("config.json")).unwrap();
    let weights = source.path().join("model.safetensors");
    fs::write(&weights, fs::read(&weights).unwrap()).unwrap();
    assert_eq!(pack(source.path(), out.path(), Format::Int8).unwrap().kept_shards, 0);
    Model::<Flex>::from_pretrained(out.path()).unwrap();
}

#[test]
fn the_source_is_left_alone() {
    let source = copy_of(&demo());
    let before = (files(source.path()), modified(source.path()));
    packed(source.path(), Format::Fp8);
    assert_eq!((files(source.path()), modified(source.path())), before);
}

/// Progress is told part by part, in the order of a pass.
#[test]
fn progress_is_told() {
    let out = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let tell = |progress: &leveret::PackProgress<'_>| {
        assert!(progress.done <= progress.total);
        told.push((progress.part.to_owned(), progress.done));
    };
    Pack::new(Format::Int8).write_and_tell::<Flex>(&demo(), out.path(), tell).unwrap();
    let parts: Vec<_> = told.iter().map(|(part, _)| part.as_str()).collect();
    assert_eq!(parts, ["the embedding", "layer 0", "layer 1", "layer 2", "layer 3", "the head"]);
    assert!(told.is_sorted_by(|a, b| a.1 < b.1));
}

/// As any file that a user makes.
#[cfg(unix)]
#[test]
fn files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let out = packed(&demo(), Format::Int8);
    let ordinary = out.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    for entry in fs::read_dir(out.path()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), mode(&ordinary));
    }
}

/// Nothing that is not a number is packed away.
#[test]
fn nan_is_not_packed() {
    let dir = copy_of(&fixture("mistral"));
    let mut source = tensors(dir.path());
    let spoilt = source.get_mut("model.layers.1.mlp.up_proj.weight").unwrap();
    spoilt.bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    write(dir.path(), &source, &config(dir.path()));
    let out = tempfile::tempdir().unwrap();
    let error = pack(dir.path(), out.path(), Format::Int8).unwrap_err().to_string();
    let says = "tensor `model.layers.1.mlp.up_proj.weight` holds NaN or infinity";
    assert!(error.contains(says) && error.contains("model.safetensors"), "{error}");
    assert!(!out.path().join("config.json").exists());
    assert_eq!(json!(null), json!(fs::read(out.path().join(INDEX)).ok()));
}
