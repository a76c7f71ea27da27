use std::fs;

use burn::backend::Flex;
use leveret::{Budget, GenerateOptions, Model, Transfer};
use rstest::rstest;

use super::{assert_says, line, load_error, with_config};
use crate::support::{copy_of, demo, fixture, greedy};

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
fn a_budget_below_one_unit() {
    let mut model = Model::<Flex>::builder(fixture("llama")).ram(Budget::Bytes(1000)).load().unwrap();
    let error = line(model.generate(vec![1u32, 2], &greedy(1)).unwrap_err());
    assert_says(&error, &["a budget of 1000 bytes is too small", "largest unit", "KV cache", "activations"]);
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

/// A number that nobody has given on the way is the checkpoint's own, and the error says where it stands.
#[test]
fn a_default_out_of_range() {
    let dir = copy_of(&demo());
    fs::write(dir.path().join("generation_config.json"), r#"{"do_sample": true, "temperature": -1}"#).unwrap();
    let mut model = Model::<Flex>::from_pretrained(dir.path()).unwrap();
    let options = GenerateOptions { max_tokens: Some(1), ..Default::default() };
    let error = line(model.generate("Once", &options).unwrap_err());
    assert_says(&error, &["temperature is -1, expected a number from 0 on", "generation_config.json"]);
    assert!(model.generate("Once", &GenerateOptions { temperature: Some(0.5), ..options }).is_ok());
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
