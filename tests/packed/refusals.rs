use std::fs;
use std::path::Path;

use leveret::models::weight::Format;
use rstest::rstest;

use super::{pack, packed};
use crate::support::{copy_of, demo, fixture};

fn error(dir: &Path, out: &Path, format: Format) -> String {
    let text = pack(dir, out, format).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn assert_says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

/// Nothing is written into the source, by whatever name it is called.
#[rstest]
#[case("")]
#[case("packed")]
#[case("packed/deep/er")]
#[case("../{}")]
fn a_directory_in_the_source(#[case] name: &str) {
    let source = copy_of(&demo());
    let own_name = source.path().file_name().unwrap().to_str().unwrap();
    let out = source.path().join(name.replace("{}", own_name));
    let count = || fs::read_dir(source.path()).unwrap().count();
    let before = count();
    assert_says(&error(source.path(), &out, Format::Int8), &["is the source or lies in it", "another directory"]);
    assert_eq!(count(), before);
}

#[test]
fn a_directory_with_something_else_in_it() {
    let out = tempfile::tempdir().unwrap();
    let refuses = |name: &str, content: &[u8]| {
        let path = out.path().join(name);
        fs::write(&path, content).unwrap();
        assert_says(
            &error(&demo(), out.path(), Format::Int8),
            &[&format!("`{name}` is there"), "choose an empty directory", out.path().to_str().unwrap()],
        );
        assert_eq!(fs::read(&path).unwrap(), content);
        fs::remove_file(&path).unwrap();
    };
    refuses("holiday.jpg", b"sea");
    refuses("tokenizer.json", b"{}");
    refuses("config.json", b"{}");
    refuses("notes.partial", b"half a thought");
    let weights = fs::read(demo().join("model.safetensors")).unwrap();
    refuses("model.safetensors", &weights);
    refuses("model-00001-of-00001.safetensors", &weights);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

/// A checkpoint that was packed in another way, or of another model of the same config, is not written over.
#[test]
fn another_packed_checkpoint() {
    let out = packed(&demo(), Format::Int8);
    assert_says(&error(&demo(), out.path(), Format::Int4), &["is not what would be written"]);
    let other = copy_of(&demo());
    let weights = other.path().join("model.safetensors");
    fs::write(&weights, fs::read(&weights).unwrap()).unwrap();
    assert_says(
        &error(other.path(), out.path(), Format::Int8),
        &["model-00001-of-00001", "packed from something else"],
    );
}

#[test]
fn a_file_in_place_of_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::write(&out, "").unwrap();
    assert_says(&error(&demo(), &out, Format::Int8), &["out", "directory"]);
}

#[test]
fn what_is_packed_already() {
    let (source, out) = (packed(&fixture("mistral"), Format::Int4), tempfile::tempdir().unwrap());
    assert_says(
        &error(source.path(), out.path(), Format::Int8),
        &["config.json", "packed already (int4)", "the one that it was made of"],
    );
}

#[test]
fn a_source_without_matrices_to_pack() {
    let out = tempfile::tempdir().unwrap();
    assert_says(
        &error(&fixture("llama"), out.path(), Format::Int4),
        &["no linear layer has rows of a multiple of 32 weights, as int4 needs"],
    );
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_source_that_is_no_checkpoint() {
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_says(&error(source.path(), out.path(), Format::Int8), &["config.json"]);
    assert_says(&error(&source.path().join("nowhere"), out.path(), Format::Int8), &["nowhere"]);
    fs::copy(demo().join("config.json"), source.path().join("config.json")).unwrap();
    assert_says(&error(source.path(), out.path(), Format::Int8), &["no checkpoint here"]);
}
