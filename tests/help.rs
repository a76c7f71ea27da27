//! What the command says of itself; `UPDATE_EXPECT=1 cargo test --features ndarray help` writes `tests/help/` anew.

use std::collections::BTreeSet;
use std::path::Path;

use assert_cmd::Command;
use expect_test::expect_file;

/// What is printed for these arguments, whatever the environment.
fn says(args: &[&str]) -> String {
    let mut command = Command::cargo_bin("leveret").unwrap();
    let output = command.env_clear().env("COLUMNS", "100").args(args).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// Names in the list of commands, but for `help` itself.
fn commands() -> Vec<String> {
    let text = says(&["--help"]);
    let lines = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let name =
        |line: &str| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()).map(str::to_owned);
    lines.filter_map(name).filter(|name| name != "help").collect()
}

#[test]
fn every_command_helps_as_it_did() {
    expect_file!["help/leveret.txt"].assert_eq(&says(&["--help"]));
    for command in commands() {
        expect_file![format!("help/{command}.txt")].assert_eq(&says(&[&command, "--help"]));
    }
}

/// What is no command any more has no file either.
#[test]
fn every_file_is_of_a_command() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let stem = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().path().file_stem()?.to_str().map(str::to_owned);
    let files: BTreeSet<_> = std::fs::read_dir(dir).unwrap().filter_map(stem).collect();
    assert_eq!(files, commands().into_iter().chain(["leveret".to_owned()]).collect());
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = says(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("max-tokens"), "{shell}");
    }
}

#[test]
fn manual_pages_are_of_every_command() {
    let page = says(&["man"]);
    assert!(page.contains(".TH leveret 1") && page.contains("Exit codes"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    says(&["man", "--dir", pages.to_str().unwrap()]);
    for command in commands() {
        let page = std::fs::read_to_string(pages.join(format!("leveret-{command}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS"), "{command}");
    }
    assert!(pages.join("leveret.1").exists());
}
