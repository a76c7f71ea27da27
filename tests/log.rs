//! What is told on standard error, and when.

use assert_cmd::Command;
use rstest::rstest;

/// Standard error of a short run.
fn told(flags: &[&str], rust_log: &str) -> String {
    let mut command = Command::cargo_bin("leveret").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("RUST_LOG", rust_log);
    command.args(["generate", "Chapter", "--quiet", "--max-tokens", "2", "--ram", "min"]).args(flags);
    String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
}

#[rstest]
#[case::silent_by_default(&[], "", "", "opened")]
#[case::flag(&["-v"], "", "opened a checkpoint", "compute")]
#[case::more(&["-vv"], "", "compute{unit=0 stage=0}", "nothing that is not there")]
#[case::environment(&[], "leveret=debug", "follows a plan", "compute")]
#[case::nonsense(&[], "leveret=loud", "warning: RUST_LOG is not understood", "opened")]
fn as_much_as_asked_for(#[case] flags: &[&str], #[case] env: &str, #[case] tells: &str, #[case] not: &str) {
    let text = told(flags, env);
    assert!(text.contains(tells) && !text.contains(not), "{text}");
    assert!(!tells.is_empty() || text.is_empty(), "{text}");
}

/// A trace and the log go together.
#[test]
fn a_trace_is_taken_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    assert!(told(&["-v", "--trace", path.to_str().unwrap()], "").contains("follows a plan"));
    assert!(std::fs::read_to_string(path).unwrap().contains("compute"));
}
