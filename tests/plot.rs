//! `leveret bench --plot`.

use assert_cmd::Command;
use serde_json::Value;

fn bench(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("leveret").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["bench", "models/demo", "--device", "cpu"]);
    command.args(["--prompt-tokens", "8", "--max-tokens", "3", "--runs", "1"]).args(args);
    command
}

#[test]
fn draws_budgets_from_the_least_to_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plot.svg");
    let mut command = bench(&["--json", "--plot", path.to_str().unwrap()]);
    let runs: Value = serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap();
    let memory = |run: &Value| run["plan"]["devices"][0]["bytes"].as_u64().unwrap();
    let resident =
        |run: &Value| run["plan"]["tiers"].as_array().unwrap().iter().filter(|tier| **tier == "device").count();
    let runs = runs.as_array().unwrap();
    assert!(runs.len() > 2 && runs.is_sorted_by_key(memory), "{runs:?}");
    assert_eq!((resident(&runs[0]), resident(&runs[runs.len() - 1])), (0, 5));
    for run in runs {
        let decode = &run["decode"];
        let parts =
            ["wait_read_seconds", "wait_upload_seconds", "convert_seconds", "compute_seconds", "sample_seconds"];
        let sum: f64 = parts.iter().map(|part| decode[*part].as_f64().unwrap()).sum();
        assert!(sum > 0.0 && sum < 2.0 * decode["seconds"].as_f64().unwrap(), "{decode}");
    }
    let svg = std::fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    for found in ["demo on cpu", "ms a token", "waiting for reads", "computing", "prefers-color-scheme"] {
        assert!(svg.contains(found), "{found}: {svg}");
    }
}

#[test]
fn budgets_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plot.svg");
    let plot = ["--plot", path.to_str().unwrap(), "--budgets", "min,free"];
    let text = String::from_utf8(bench(&plot).assert().success().get_output().stdout.clone()).unwrap();
    assert!(text.contains("0 of 5") && text.contains("5 of 5"), "{text}");
    let head: Vec<_> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["cpu", "min", "free"]);
    bench(&["--budgets", "min"]).assert().code(2);
}

/// A picture stays until another takes its place, which is asked before anything is measured.
#[test]
fn a_picture_is_replaced_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plot.svg");
    std::fs::write(&path, "a picture").unwrap();
    bench(&["--plot", path.to_str().unwrap(), "--budgets", "1KiB"]).assert().code(1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a picture");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::create_dir(dir.path().join("directory.svg")).unwrap();
    for plot in ["nowhere/plot.svg", "directory.svg"] {
        bench(&["--plot", dir.path().join(plot).to_str().unwrap()]).assert().code(1).stdout("");
    }
    for name in ["plot.txt", "plot.png", "plot"] {
        let told = bench(&["--plot", name]).assert().code(2).get_output().stderr.clone();
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains("SVG") && told.contains("PNG") && told.contains(".svg"), "{told}");
    }
}
