use assert_cmd::Command;

use super::server::{COMMIT, Faults, MODEL, Server, TOKEN};
use crate::support::demo;

fn leveret(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("leveret").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_HUB_CACHE", server.cache.path());
    command.env_remove("HF_HUB_OFFLINE").env("HF_TOKEN_PATH", "/nowhere").env_remove("HF_TOKEN");
    command
}

fn output(mut command: Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_model_is_pulled_run_listed_and_removed() {
    let server = Server::start(&demo());
    let (_, stdout, stderr) = output(leveret(&server, &["pull", MODEL]));
    assert_eq!(stdout.trim(), server.snapshot().to_str().unwrap(), "{stderr}");
    let generate =
        ["generate", "--model", MODEL, "The mansion in Saville Row", "--temperature", "0", "--max-tokens", "5"];
    server.requests();
    let (_, offline, stderr) = output(leveret(&server, &[&generate[..], &["--offline", "--quiet"]].concat()));
    assert!(offline.starts_with("The mansion in Saville Row, though"), "{offline} {stderr}");
    assert_eq!(server.requests().len(), 0);
    assert!(output(leveret(&server, &["doctor", MODEL])).1.contains("MiB of weights"));

    let list = output(leveret(&server, &["ls"])).1;
    assert!(list.contains(MODEL) && list.contains(&format!("main ({})", &COMMIT[..8])), "{list}");
    let (done, _, stderr) = output(leveret(&server, &["rm", MODEL]));
    assert!(!done && stderr.contains("Remove org/demo, 3.9 MB?") && stderr.contains("nothing was removed"), "{stderr}");
    assert!(server.snapshot().exists());
    let (_, stdout, stderr) = output(leveret(&server, &["rm", MODEL, "--yes"]));
    assert_eq!(stdout, "3.9 MB are free again\n", "{stderr}");
    assert!(!server.root().exists());
    let list = output(leveret(&server, &["ls", "--json"])).1;
    assert_eq!(list.trim(), "[]");
    let (_, list, told) = output(leveret(&server, &["ls", "--offline"]));
    assert_eq!(list, "");
    assert!(told.contains(server.cache.path().to_str().unwrap()) && told.contains("leveret pull"), "{told}");
}

/// A name is all that a command needs; the plan is shown without weights.
#[test]
fn a_name_stands_where_a_directory_does() {
    let server = Server::start(&demo());
    assert!(output(leveret(&server, &["info", MODEL])).1.contains("of 5 units resident"));
    assert!(!server.snapshot().join("model.safetensors").exists());
    let generate =
        ["generate", "--model", MODEL, "The mansion in Saville Row", "--temperature", "0", "--max-tokens", "5"];
    let (_, stdout, stderr) = output(leveret(&server, &generate));
    assert!(stdout.starts_with("The mansion in Saville Row, though"), "{stdout} {stderr}");
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("packed");
    let (done, _, stderr) = output(leveret(&server, &["pack", MODEL, out.to_str().unwrap(), "--bits", "8"]));
    assert!(done, "{stderr}");
    assert!(out.join("config.json").exists());
}

/// Nobody there is told at once, and not for long.
#[test]
fn a_hub_that_is_not_there_is_told_at_once() {
    let server = Server::start(&demo());
    let begun = std::time::Instant::now();
    let mut command = leveret(&server, &["pull", MODEL]);
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    command.env("HF_ENDPOINT", format!("http://127.0.0.1:{port}"));
    let (done, _, stderr) = output(command);
    assert!(!done && begun.elapsed() < std::time::Duration::from_secs(5), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with("warning: http://127") && lines[0].ends_with("; it is asked again"), "{stderr}");
    assert!(lines[1].starts_with("error: ") && lines[1].contains("check the connection"), "{stderr}");
}

/// A token that no header takes says where it is from and what is wrong with it.
#[test]
fn a_token_that_cannot_be_sent_is_told() {
    let server = Server::start(&demo());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hf_secret\nhf_secret\n").unwrap();
    let mut of_file = leveret(&server, &["pull", MODEL]);
    of_file.env("HF_TOKEN_PATH", file.path());
    let mut of_environment = leveret(&server, &["pull", MODEL]);
    of_environment.env("HF_TOKEN", "hf_secret\nhf_secret");
    let of_flag = leveret(&server, &["pull", MODEL, "--token", "hf_secret\nhf_secret"]);
    let path = file.path().to_str().unwrap();
    for (command, from) in [(of_file, path), (of_environment, "HF_TOKEN"), (of_flag, "--token")] {
        let (done, _, stderr) = output(command);
        assert!(!done && stderr.contains(from) && stderr.contains("character 10 is a line break"), "{stderr}");
        assert!(!stderr.contains("secret") && server.requests().is_empty(), "{stderr}");
    }
}

#[test]
fn a_token_is_used_and_never_shown() {
    let server = Server::start(&demo());
    server.fail(Faults { file_status: Some((403, "GatedRepo")), ..Faults::default() });
    let bearer = Some("Bearer hf_secret");
    let mut by_environment = leveret(&server, &["pull", MODEL]);
    by_environment.env("HF_TOKEN", TOKEN);
    let mut by_flag = leveret(&server, &["pull", MODEL, "--token", TOKEN]);
    by_flag.env("HF_TOKEN", "another");
    for command in [by_environment, by_flag] {
        let (done, stdout, stderr) = output(command);
        assert!(!done && stderr.contains("pass another token"), "{stderr}");
        assert!(!(stdout + &stderr).contains(TOKEN));
        assert!(server.requests().iter().all(|request| request.authorization.as_deref() == bearer));
    }
    let mut help = leveret(&server, &["generate", "--help"]);
    help.env("HF_TOKEN", TOKEN);
    assert!(!output(help).1.contains(TOKEN));
}
