//! `leveret chat` at a terminal.

use std::process::Command;

use rexpect::process::WaitStatus;
use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};

use crate::support::demo;

/// A conversation whose user waits for a minute at most; its files are in `home`.
fn chat(home: &std::path::Path, flags: &[&str]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["chat", "--dtype", "float32", "--temperature", "0", "--ignore-eos"]).args(flags).arg(demo());
    command.current_dir(home).env("XDG_STATE_HOME", home).env("TERM", "xterm");
    let options = Options::new().timeout_ms(Some(60_000)).strip_ansi_escape_codes(true);
    spawn_with_options(command, options).unwrap()
}

/// Types a line where it is waited for.
fn say(chat: &mut PtySession, line: &str) {
    chat.exp_string("> ").unwrap();
    chat.send_line(line).unwrap();
    // The terminal shows what is typed.
    chat.exp_string(line).unwrap();
}

fn ends(mut chat: PtySession) {
    chat.exp_string("> ").unwrap();
    chat.send_control('d').unwrap();
    chat.exp_eof().unwrap();
    let status = chat.process_mut().wait().unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

#[test]
fn a_conversation() {
    let home = tempfile::tempdir().unwrap();
    let mut chat = self::chat(home.path(), &[]);
    say(&mut chat, "Phileas Fogg");
    // The demo says nothing short: it goes on until somebody has heard enough.
    chat.exp_regex("[a-z]+ [a-z]+ [a-z]+").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string(" [cancelled]").unwrap();
    say(&mut chat, "/stats");
    chat.exp_regex("[0-9]+ new tokens read, first token after").unwrap();
    say(&mut chat, "/save talk.json");
    say(&mut chat, "/reset");
    say(&mut chat, "/stats");
    chat.exp_string("; 0 of 512 positions are taken").unwrap();
    say(&mut chat, "/load talk.json");
    say(&mut chat, "\"\"\"The mansion");
    chat.send_line("in Saville Row\"\"\"").unwrap();
    chat.exp_regex("[a-z]+ [a-z]+ [a-z]+").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string(" [cancelled]").unwrap();
    say(&mut chat, "/save talk.json");
    ends(chat);
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(home.path().join("talk.json")).unwrap()).unwrap();
    let saved: Vec<_> = saved["messages"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!(saved, ["user", "assistant", "user", "assistant"]);
}

/// Lines of an earlier run are there again, for their user alone.
#[test]
fn history_is_kept_between_runs() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("leveret/history");
    let mut unkept = chat(home.path(), &["--no-history"]);
    say(&mut unkept, "/stats");
    ends(unkept);
    assert!(!file.exists());
    let mut first = chat(home.path(), &[]);
    say(&mut first, "/stats");
    ends(first);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let mut second = chat(home.path(), &[]);
    second.exp_string("> ").unwrap();
    // The arrow up, and return.
    second.send("\x1b[A\r").unwrap();
    second.flush().unwrap();
    second.exp_string("positions are taken; no reply yet").unwrap();
    ends(second);
}
