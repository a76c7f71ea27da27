//! What the doctor finds, on a machine that may have nothing.

use std::path::Path;

use assert_cmd::Command;
use leveret::{Finding, Mark, doctor};
use serde_json::Value;

use crate::support::{copy_of, demo};

fn command(dir: &Path) -> Command {
    let mut command = Command::cargo_bin("leveret").unwrap();
    command.arg("doctor").arg(dir);
    command
}

fn stdout(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn find(dir: &Path, subject: &str) -> Option<Finding> {
    doctor(dir).into_iter().find(|finding| finding.subject == subject)
}

#[test]
fn build_machine_and_disk_are_looked_at() {
    let backends = find(&demo(), "backends").unwrap();
    assert!(backends.found.contains("flex"), "{backends:?}");
    let ram = find(&demo(), "RAM").unwrap();
    assert!(ram.mark == Mark::Ok && ram.found.contains("--ram free takes up to"), "{ram:?}");
    let cpu = find(&demo(), "CPU").unwrap();
    let instructions = leveret_models::cpu_instructions().unwrap_or("portable kernels");
    assert!(cpu.found.contains("logical cores") && cpu.found.contains(instructions), "{cpu:?}");
    #[cfg(target_os = "linux")]
    assert!(find(&demo(), "disk").is_some() && find(&demo(), "direct reads").is_some());
    #[cfg(feature = "cuda")]
    assert!(find(&demo(), "CUDA driver").is_some() && find(&demo(), "CUDA kernels").is_some());
}

#[test]
fn what_is_missing_has_a_next_step() {
    for finding in doctor(&demo()) {
        assert!(finding.mark != Mark::Missing || finding.next.is_some(), "{finding:?}");
    }
}

#[test]
fn a_checkpoint_is_weighed() {
    let found = find(&demo(), "checkpoint").unwrap();
    assert!(found.mark == Mark::Ok && found.found.contains("MiB of weights"), "{found:?}");
    assert_eq!(find(Path::new(env!("CARGO_MANIFEST_DIR")), "checkpoint"), None);

    let copy = copy_of(&demo());
    std::fs::remove_file(copy.path().join("config.json")).unwrap();
    let found = find(copy.path(), "checkpoint").unwrap();
    assert!(found.mark == Mark::Missing && found.found.contains("without config.json"), "{found:?}");

    std::fs::write(copy.path().join("config.json"), r#"{"model_type": "lama"}"#).unwrap();
    let found = find(copy.path(), "checkpoint").unwrap();
    assert!(found.mark == Mark::Missing && found.found.contains("unknown model_type `lama`"), "{found:?}");

    let weights = copy.path().join("model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    let found = find(copy.path(), "checkpoint").unwrap();
    assert!(found.mark == Mark::Missing && found.found.contains("expected model.safetensors"), "{found:?}");

    std::fs::write(weights, "short").unwrap();
    let found = find(copy.path(), "checkpoint").unwrap();
    assert_eq!((found.mark, found.next.as_deref()), (Mark::Missing, Some("download the file again")));
    assert!(stdout(command(copy.path())).contains("broken safetensors header"));
}

#[test]
fn a_tokenizer_is_missed() {
    assert_eq!(find(&demo(), "tokenizer"), None);
    let copy = copy_of(&demo());
    let path = copy.path().join("tokenizer.json");
    std::fs::write(&path, "{}").unwrap();
    let found = find(copy.path(), "tokenizer").unwrap();
    assert_eq!((found.mark, found.next.as_deref()), (Mark::Missing, Some("download the file again")));
    std::fs::remove_file(path).unwrap();
    let found = find(copy.path(), "tokenizer").unwrap();
    assert!(found.mark == Mark::Missing && found.found.contains("no tokenizer.json"), "{found:?}");
}

#[test]
fn nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    doctor(dir.path());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_finding_is_one_line_and_one_object() {
    let subjects: Vec<String> = doctor(&demo()).into_iter().map(|finding| finding.subject).collect();
    let text = stdout(command(&demo()));
    assert_eq!(text.lines().count(), subjects.len(), "{text}");
    assert!(text.lines().zip(&subjects).all(|(line, subject)| line.contains(subject.as_str())), "{text}");

    let mut json = command(&demo());
    json.arg("--json");
    let json: Value = serde_json::from_str(&stdout(json)).unwrap();
    let found: Vec<&str> =
        json.as_array().unwrap().iter().map(|finding| finding["subject"].as_str().unwrap()).collect();
    assert_eq!(found, subjects);
    assert!(["ok", "note"].contains(&json[0]["mark"].as_str().unwrap()));
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let nowhere = Path::new("nowhere");
    let message = "error: nowhere: No such file or directory (os error 2); check the path\n";
    command(nowhere).assert().code(1).stdout("").stderr(message);
    let disk = find(nowhere, "disk").unwrap();
    assert_eq!((disk.mark, disk.next.as_deref()), (Mark::Missing, Some("check the path")));
    assert!(message.contains(&disk.found), "{disk:?}");
}
