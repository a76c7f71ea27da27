//! Every example runs.

use std::path::Path;
use std::process::Command;

use rstest::rstest;

/// Examples are built beside the tests by `cargo test`.
#[rstest]
#[case("generate", "The mansion in Saville Row")]
#[case("stream", "first token after")]
#[case("budget", "0 of 5 units resident")]
#[case("batch", "3 prompts, 20 passes")]
#[case("chat", "new tokens read")]
#[case("json_schema", "town \"")]
#[case("custom_architecture", "largest difference from the built-in Llama")]
#[case("custom_attention", "largest difference from eager")]
#[cfg_attr(feature = "ndarray", case("compare_backends", "largest difference of two logits"))]
fn runs(#[case] name: &str, #[case] prints: &str) {
    let command = Path::new(&assert_cmd::cargo::cargo_bin("leveret")).with_file_name("examples").join(name);
    let output = Command::new(&command).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {output:?}");
    assert!(text.contains(prints), "{name} prints {text}");
}

#[test]
fn every_example_is_listed_here_and_says_how_to_run_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let (name, text) = (path.file_stem().unwrap().to_str().unwrap(), std::fs::read_to_string(&path).unwrap());
        let command = text.lines().next().unwrap_or_default();
        assert!(command.starts_with("// cargo run --release "), "{name}");
        assert!(command.contains(&format!("--example {name} -- ")), "{name}");
        assert!(include_str!("examples.rs").contains(&format!("case(\"{name}\"")), "{name}");
    }
}
