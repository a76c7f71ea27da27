//! `leveret chat` at a terminal.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rexpect::process::WaitStatus;
use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};

use crate::hub::server::{Faults, MODEL, Server};
use crate::support::{demo, tiny};

/// A conversation in `home`, whose user waits for a minute at most.
fn chat(home: &Path, flags: &[&str]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["chat", "--dtype", "float32", "--temperature", "0", "--max-tokens", "8"]).args(flags);
    command.current_dir(home).env("XDG_STATE_HOME", home).env("TERM", "xterm");
    start(command)
}

fn start(command: Command) -> PtySession {
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
    let mut chat = chat(home.path(), &[demo().to_str().unwrap()]);
    say(&mut chat, "Phileas Fogg");
    say(&mut chat, "/stats");
    chat.exp_regex("[0-9]+ new tokens read, first token after").unwrap();
    say(&mut chat, "/save talk.json");
    say(&mut chat, "/reset");
    say(&mut chat, "/stats");
    chat.exp_string("0 of 512 positions are taken; no reply yet").unwrap();
    say(&mut chat, "/load talk.json");
    say(&mut chat, "\"\"\"The mansion");
    chat.send_line("in Saville Row\"\"\"").unwrap();
    say(&mut chat, "/save talk.json");
    ends(chat);
    let saved = std::fs::read_to_string(home.path().join("talk.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let field =
        |name: &str| saved["messages"].as_array().unwrap().iter().map(|it| it[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("role"), ["user", "assistant", "user", "assistant"]);
    assert_eq!(field("content")[2], "The mansion\nin Saville Row");
    assert_ne!(field("content")[1], "");
}

#[test]
fn lines_may_be_typed_ahead() {
    let home = tempfile::tempdir().unwrap();
    let mut chat = chat(home.path(), &[demo().to_str().unwrap()]);
    chat.exp_string("> ").unwrap();
    chat.send("/one\n/two\n/three\n").unwrap();
    chat.flush().unwrap();
    for command in ["/one", "/two", "/three"] {
        chat.exp_string(&format!("unknown command `{command}`")).unwrap();
    }
    ends(chat);
}

/// Whoever has waited enough for a reply goes on with another.
#[test]
fn an_interrupt_ends_a_reply_and_not_the_conversation() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start(&demo()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["chat", MODEL, "--dtype", "float32", "--max-tokens", "8", "--no-history"]).current_dir(home.path());
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_HUB_CACHE", server.cache.path()).env("TERM", "xterm");
    command.env_remove("HF_HUB_OFFLINE").env("HF_TOKEN_PATH", "/nowhere").env_remove("HF_TOKEN");
    server.fail(Faults { hold_after: Some(2_000_000), ..Faults::default() });
    let mut chat = start(command);
    say(&mut chat, "Phileas Fogg");
    // The reply waits for weights, of which half are there.
    while !server.requests().iter().any(|request| request.range.as_deref() == Some("bytes=0-")) {
        std::thread::sleep(Duration::from_millis(20));
    }
    chat.send_control('c').unwrap();
    chat.exp_string(" [cancelled]").unwrap();
    say(&mut chat, "The mansion");
    // The bars that go on from here would be drawn into what is typed.
    server.fail(Faults::default());
    say(&mut chat, "/stats");
    chat.exp_regex("[0-9]+ new tokens read, first token after").unwrap();
    say(&mut chat, "/save talk.json");
    ends(chat);
    let saved = std::fs::read_to_string(home.path().join("talk.json")).unwrap();
    assert!(saved.contains("The mansion") && !saved.contains("Phileas"), "{saved}");
}

/// Lines of an earlier run are there again, for their user alone.
#[test]
fn history_is_kept_between_runs() {
    let (home, demo) = (tempfile::tempdir().unwrap(), demo());
    let (file, demo) = (home.path().join("leveret/history"), demo.to_str().unwrap());
    let mut unkept = chat(home.path(), &[demo, "--no-history"]);
    say(&mut unkept, "/stats");
    ends(unkept);
    assert!(!file.exists());
    let mut first = chat(home.path(), &[demo]);
    say(&mut first, "/stats");
    ends(first);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let mut second = chat(home.path(), &[demo]);
    second.exp_string("> ").unwrap();
    // The arrow up, and return.
    second.send("\x1b[A\r").unwrap();
    second.flush().unwrap();
    second.exp_string("positions are taken; no reply yet").unwrap();
    ends(second);
}

/// Whoever has seen enough of a text gets a clean line and the exit code of an interrupt.
#[test]
fn an_interrupt_ends_a_generation() {
    // The demo has said all that it may before a key is pressed.
    let model = tempfile::tempdir().unwrap();
    tiny(100).write(model.path(), 1).unwrap();
    // A terminal that has no columns shows no numbers.
    let mut command = Command::new("sh");
    command.args(["-c", r#"stty cols 80; exec "$0" "$@""#, env!("CARGO_BIN_EXE_leveret")]);
    command.args(["generate", "--model", model.path().to_str().unwrap(), "--tokens", "1,2,3", "--ignore-eos"]);
    command.args(["--max-tokens", "100000"]).env("TERM", "xterm");
    let mut generation = start(command);
    generation.exp_string(" tok/s").unwrap();
    generation.send_control('c').unwrap();
    let rest = generation.exp_eof().unwrap();
    assert!(rest.ends_with('\n') && !rest.contains("error"), "{rest}");
    let status = generation.process_mut().wait().unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 130)), "{status:?}");
}
