//! The exit codes that `--help` lists.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;
use rstest::rstest;

use crate::support::{demo, fixture};

fn code(args: &[&str]) -> Option<i32> {
    let mut command = Command::cargo_bin("leveret").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().unwrap().status.code()
}

#[rstest]
#[case::done(&["info"], 0)]
#[case::help(&["--help"], 0)]
#[case::an_error(&["info", "nowhere"], 1)]
#[case::a_file_that_cannot_be_written(&["man", "--dir", "README.md/man"], 1)]
#[case::no_command(&[], 2)]
#[case::unknown_command(&["generat", "x"], 2)]
#[case::unknown_flag(&["info", "--colour"], 2)]
#[case::unknown_shell(&["completions", "sh"], 2)]
fn codes_are_as_documented(#[case] args: &[&str], #[case] expected: i32) {
    assert_eq!(code(args), Some(expected));
}

#[test]
fn answers_that_differ_are_an_error() {
    let dir = fixture("llama");
    let verify = ["verify", dir.to_str().unwrap()];
    assert_eq!(code(&verify), Some(0));
    assert_eq!(code(&[&verify[..], &["--tolerance", "0"]].concat()), Some(1));
}

/// Shells count a process that a signal ended as 128 and the signal's number; SIGINT is 2.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_it() {
    use std::os::unix::process::ExitStatusExt;
    // Who runs the tests may ignore the signal, and children inherit that.
    let mut child = std::process::Command::new("env")
        .args(["--default-signal=INT", assert_cmd::cargo::cargo_bin("leveret").to_str().unwrap(), "generate", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    assert!(status.signal() == Some(2) || status.code() == Some(130), "{status:?}");
}

/// What there was before is printed, and says that it has no end.
#[cfg(target_os = "linux")]
#[rstest]
#[case::json(&["a", "--json"])]
#[case::a_batch(&["a", "b"])]
fn an_interrupt_keeps_replies(#[case] arguments: &[&str]) {
    let replies = tempfile::NamedTempFile::new().unwrap();
    let mut child = std::process::Command::new("env")
        .args(["--default-signal=INT", assert_cmd::cargo::cargo_bin("leveret").to_str().unwrap(), "generate", "-vv"])
        .args(["--model", demo().to_str().unwrap(), "--max-tokens", "400", "--ignore-eos"])
        .args(arguments)
        .stdout(replies.reopen().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // After so many layers some tokens are there.
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.by_ref().filter(|line| line.contains("compute{")).nth(30).is_some());
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    log.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let text = std::fs::read_to_string(replies.path()).unwrap();
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(json) => {
            let reply = &json["completions"][0];
            assert!(reply["finish_reason"].is_null() && reply["tokens"].as_array().unwrap().len() > 1, "{text}");
        }
        Err(_) => assert!(text.starts_with("[1] a") && text.contains("\n[2] b"), "{text}"),
    }
}
