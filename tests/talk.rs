//! `leveret chat`: turns, commands, and sessions that go on.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{copy_of, demo};

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
    assert_eq!(read.len(), 2, "{all}");
    let alone = text(&chat(&[], "The mansion\n/stats\n"));
    assert!(alone.contains(" of 512 positions") || alone.contains("positions are taken"), "{alone}");
    assert_eq!(all.lines().last(), Some("0 of 512 positions are taken; no reply yet"), "{all}");
}

#[test]
fn commands_and_several_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json");
    let file = file.to_str().unwrap();
    let no_messages = dir.path().join("list.json");
    std::fs::write(&no_messages, "[]").unwrap();
    let no_messages = no_messages.display();
    let input =
        format!("\"\"\"\nPhileas\nFogg\n\"\"\"\n/save {file}\n/nonsense\n/help\n/load {file}x\n/load {no_messages}\n");
    let output = chat(&["--system", "Be brief."], &input);
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("unknown command `/nonsense`") && out.contains("/reset"), "{out}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("talk.jsonx") && errors.contains("there are no `messages`"), "{errors}");
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!((&messages[0]["role"], &messages[1]["content"]), (&"system".into(), &"Phileas\nFogg".into()));
    assert_eq!(messages[2]["content"].as_str().unwrap(), out.lines().next().unwrap().trim_end_matches('\r'));
}

/// What stands between fences is a message, whatever it begins with; one that has no end is told.
#[test]
fn fenced_text_is_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talk.json");
    let output = chat(&[], &format!("\"\"\"/exit\"\"\"\n\"\"\"\"\"\"\n/save {}\n\"\"\"\n/help\n", file.display()));
    let out = text(&output);
    assert_eq!(out.lines().collect::<Vec<_>>()[1..2], ["wrote 2 messages"], "{out}");
    assert_eq!(out.lines().count(), 3, "{out}");
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!((saved["messages"].as_array().unwrap().len(), &saved["messages"][0]["content"]), (2, &"/exit".into()));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "warning: the input ends before \"\"\" does; what there is of the message is taken\n");
}

/// A conversation that was written in the middle is answered; one that has no room left says how to go on.
#[test]
fn a_conversation_that_waits_is_answered_and_a_full_one_told() {
    let dir = tempfile::tempdir().unwrap();
    let waits = dir.path().join("waits.json");
    std::fs::write(&waits, r#"{"messages": [{"role": "user", "content": "Phileas Fogg"}]}"#).unwrap();
    let load = format!("/load {}\n", waits.display());
    assert_eq!(text(&chat(&[], &load)), format!("read 1 message\n{}", text(&chat(&[], "Phileas Fogg\n"))));

    let full = chat(&["--context", "8"], &load);
    let not_saved = chat(&[], "/save /nowhere/talk.json\n");
    assert_eq!([full.status.code(), not_saved.status.code()], [Some(1), Some(1)]);
    let told = String::from_utf8(full.stderr).unwrap();
    assert!(told.starts_with("error: the message is not taken: ") && !told.contains("/reset"), "{told}");
    assert!(told.ends_with("lower max_tokens, or make more room (--context)\n"), "{told}");
    let (answered, saved) = (dir.path().join("answered.json"), dir.path().join("saved.json"));
    std::fs::write(
        &answered,
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
    )
    .unwrap();
    let input = format!("/load {}\nPhileas Fogg\n/save {}\n", answered.display(), saved.display());
    let told = String::from_utf8(chat(&["--context", "8"], &input).stderr).unwrap();
    assert!(told.ends_with("begin anew (/reset), or make more room (--context)\n"), "{told}");
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(saved).unwrap()).unwrap();
    assert_eq!(saved["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn without_a_template_there_is_no_conversation() {
    let copy = copy_of(&demo());
    std::fs::remove_file(copy.path().join("chat_template.jinja")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_leveret")).arg("chat").arg(copy.path()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    assert!(told.contains("no chat template here"), "{told}");
}

/// A session has a system prompt of its own, which another in its place would not be.
#[test]
fn a_system_prompt_beside_a_session_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, json) = (dir.path().join("talk.session"), dir.path().join("talk.json"));
    let session = ["--session", file.to_str().unwrap()];
    let with = |system: &[&str], input: &str| chat(&[&session, system].concat(), input);
    text(&with(&["--system", "Be brief."], "Phileas Fogg\n"));
    let told = |output: Output| String::from_utf8(output.stderr).unwrap();
    assert_eq!(told(with(&["--system", "Be brief."], "")), "");
    let reset = format!("/reset\n/save {}\n", json.display());
    let system = || -> serde_json::Value { serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap() };
    assert_eq!(told(with(&[], &reset)), "");
    assert_eq!(system()["messages"][0]["content"], "Be brief.");
    let other = told(with(&["--system", "Be long."], &reset));
    assert!(other.contains("talk.session") && other.contains("from the next /reset on"), "{other}");
    assert_eq!(
        (system()["messages"].as_array().unwrap().len(), &system()["messages"][0]["content"]),
        (1, &"Be long.".into())
    );
}

/// The name that was given is the one that an error has.
#[test]
fn a_session_that_cannot_be_kept_is_told_before_anything_is_computed() {
    let output = chat(&["--session", "nowhere/talk.session"], "Phileas Fogg\n");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    assert_eq!(told, "error: nowhere/talk.session: No such file or directory (os error 2); check the path\n");
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
