//! `leveret chat`: turns, commands, and sessions that go on.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::demo;

fn chat(flags: &[&str], input: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["chat", "--dtype", "float32", "--temperature", "0", "--max-tokens", "8"])
        .args(flags)
        .arg(demo())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_second_turn_reads_only_what_is_new() {
    let all = text(&chat(&[], "Phileas Fogg\n/stats\nThe mansion\n/stats\n/reset\n/stats\n/exit\n"));
    let read: Vec<usize> = all.lines().filter_map(|line| line.split_once(" new tokens read")?.0.parse().ok()).collect();
    assert_eq!(read.len(), 3, "{all}");
    let alone = text(&chat(&[], "The mansion\n/stats\n"));
    assert!(alone.contains(" of 512 positions") || alone.contains("positions are taken"), "{alone}");
    assert!(all.lines().last().unwrap().contains("; 0 of "), "{all}");
}

#[test]
fn commands_and_several_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json");
    let file = file.to_str().unwrap();
    let input = format!("\"\"\"\nPhileas\nFogg\n\"\"\"\n/save {file}\n/nonsense\n/help\n/load {file}x\n");
    let output = chat(&["--system", "Be brief."], &input);
    let out = text(&output);
    assert!(out.contains("unknown command `/nonsense`") && out.contains("/reset"), "{out}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("talk.jsonx"));
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!((&messages[0]["role"], &messages[1]["content"]), (&"system".into(), &"Phileas\nFogg".into()));
    assert_eq!(messages[2]["content"].as_str().unwrap(), out.lines().next().unwrap().trim_end_matches('\r'));
}

/// Two processes with a session say what one says.
#[test]
fn a_session_goes_on_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.session");
    let flags = ["--session", file.to_str().unwrap()];
    let whole = text(&chat(&[], "Phileas Fogg\nThe mansion\n"));
    let first = text(&chat(&flags, "Phileas Fogg\n"));
    assert!(Path::new(flags[1]).exists());
    let second = text(&chat(&flags, "The mansion\n/stats\n"));
    let stats = second.lines().last().unwrap().to_owned();
    assert_eq!(format!("{first}{}", second.strip_suffix(&format!("{stats}\n")).unwrap()), whole);
}
