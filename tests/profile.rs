//! Where the time goes is told in full.

use assert_cmd::Command;
use burn::backend::Flex;
use leveret::{Budget, Model};
use rstest::rstest;
use serde_json::Value;

use crate::support::{demo, greedy};

/// The categories that exclude each other add up to the wall time.
#[rstest]
fn categories_account_for_the_wall_time(
    #[values(Budget::Free, Budget::Min)] ram: Budget,
    #[values(1, 200)] prompt: u32,
) {
    let mut model = Model::<Flex>::builder(demo()).ram(ram).profile(true).load().unwrap();
    let (_, stats) = model.generate((0..prompt).collect::<Vec<_>>(), &greedy(40)).unwrap();
    let mut sum = stats.prefill;
    stats.decode.iter().for_each(|pass| sum += *pass);
    let (accounted, wall) = (sum.accounted_seconds(), sum.seconds);
    assert!((accounted / wall - 1.0).abs() < 0.05, "{accounted} of {wall}: {stats:?}");
    assert!(sum.compute_seconds > 0.0 && sum.sample_seconds > 0.0);
    let all_in_time = sum.read_seconds <= wall && sum.upload_seconds == 0.0;
    assert!(all_in_time, "reading is counted once, however many readers there are: {sum:?}");
    assert_eq!(sum.read_bytes > 0, sum.read_seconds > 0.0);
}

#[test]
fn the_command_prints_a_table() {
    let output = generate(&["--profile", "--ram", "min"]).assert().success();
    let table = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    for row in ["wait for disk", "wait for upload", "convert weights", "compute", "sampling", "sum", "compute a layer"]
    {
        assert!(table.contains(row), "{row} is not in:\n{table}");
    }
}

/// A trace has a lane for each thread, and a span for each unit in it.
#[test]
fn a_trace_has_lanes_of_readers_and_computation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    generate(&["--trace", path.to_str().unwrap(), "--ram", "min"]).assert().success();
    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let lanes = |name: &str| -> Vec<u64> {
        let spans = events.iter().filter(|event| event["name"] == name && event["ph"] == "B");
        spans.filter(|span| span["args"]["unit"].is_string()).map(|span| span["tid"].as_u64().unwrap()).collect()
    };
    let (reads, computes) = (lanes("read"), lanes("compute"));
    assert_eq!(computes.len(), 4 * 5, "four passes over five units");
    assert!(computes.iter().all(|lane| *lane == computes[0]));
    assert!(reads.len() >= 4 * 5 && !reads.contains(&computes[0]));
    let named = events.iter().filter(|event| event["name"] == "thread_name");
    assert!(named.filter_map(|event| event["args"]["name"].as_str()).any(|name| name.starts_with("leveret-read")));
}

#[test]
fn a_trace_that_cannot_be_written_is_an_error() {
    generate(&["--trace", "/no/such/directory/trace.json"]).assert().code(1).stdout("");
    if cfg!(target_os = "linux") {
        let output = generate(&["--trace", "/dev/full"]).assert().code(1);
        let error = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        assert!(error.contains("/dev/full: No space left"), "{error}");
    }
}

fn generate(flags: &[&str]) -> Command {
    let mut command = Command::cargo_bin("leveret").unwrap();
    let tokens =
        ["generate", "--tokens", "5,6,7", "--max-tokens", "4", "--temperature", "0", "--quiet", "--ignore-eos"];
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(tokens).args(flags);
    command
}
