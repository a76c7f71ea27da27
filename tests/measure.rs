//! `plan` and `bench` say what the machine can do and how near a model comes to it.

use assert_cmd::Command;
use serde_json::Value;

use crate::support::demo;

fn leveret(args: &[&str]) -> String {
    let mut command = Command::cargo_bin("leveret").unwrap();
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).assert().success();
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&leveret(&[args, &["--json"]].concat())).unwrap()
}

#[test]
fn plan_says_what_lives_where_and_what_limits() {
    let model = demo();
    let model = model.to_str().unwrap();
    let streamed = json(&["plan", model, "--ram", "min", "--device", "cpu"]);
    let tiers = |plan: &Value| plan["plan"]["tiers"].as_array().unwrap().clone();
    assert!(tiers(&streamed).iter().all(|tier| tier == "disk"));
    assert!(streamed["rates"]["read"].as_f64().unwrap() > 1e6);
    let part = |name: &str| streamed["prediction"][name].as_f64().unwrap();
    assert!(part("seconds") >= part("read").max(part("compute")) && part("read") > 0.0);
    assert_eq!(part("upload"), 0.0);

    let resident = json(&["plan", model, "--device", "cpu"]);
    assert!(tiers(&resident).iter().all(|tier| tier == "device"));
    assert_eq!(resident["prediction"]["bottleneck"], "compute");
    assert_eq!(resident["prediction"]["read"], 0.0);

    let text = leveret(&["plan", model, "--ram", "min"]);
    for part in ["on disk", "layers 0-3", "the head", "computing a token", "a token takes", "limited by"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let least = &streamed["plan"]["devices"][0];
    let each = least["bytes"].as_u64().unwrap() + least["slot_len"].as_u64().unwrap() / 2;
    let text = leveret(&["plan", model, "--device", "cpu,cpu", "--ram", &(2 * each).to_string()]);
    assert!(text.contains("device 0") && text.contains("layers 0, 2"), "{text}");
    assert!(text.contains("device 1") && text.contains("layers 1, 3"), "{text}");
}

/// Rates are held against limits of the same run, and memory that need not be read is not.
#[test]
fn bench_measures_against_limits() {
    let model = demo();
    let flags = ["--prompt-tokens", "40", "--max-tokens", "5", "--runs", "2", "--device", "cpu"];
    let bench = |ram: &str| json(&[&["bench", model.to_str().unwrap(), "--ram", ram], &flags[..]].concat());
    let streamed = bench("min");
    let number = |bench: &Value, path: &str| bench.pointer(path).and_then(Value::as_f64).unwrap();
    let weights = std::fs::metadata(demo().join("model.safetensors")).unwrap().len() as f64;
    for pass in ["prefill", "decode"] {
        let read = number(&streamed, &format!("/{pass}/read_bytes"));
        assert!(read > 0.9 * weights && read < weights, "{read} of {weights}");
        let of_limit = number(&streamed, &format!("/{pass}/read_of_limit"));
        let rate = number(&streamed, &format!("/{pass}/read_rate"));
        assert!((of_limit - rate / number(&streamed, "/limits/read")).abs() < 1e-9 && of_limit > 0.0);
    }
    assert!(number(&streamed, "/first_ttft") > 0.0 && number(&streamed, "/ttft") > 0.0);
    assert!(number(&streamed, "/peak_memory") > 1e6);
    let resident = bench("free");
    assert_eq!(number(&resident, "/decode/read_bytes"), 0.0);
    assert_eq!(resident["tokens"], streamed["tokens"]);
}

/// One token is what a prompt gives: nothing is told of passes that there were none of.
#[test]
fn bench_of_one_token_tells_no_decode() {
    let text = leveret(&["bench", demo().to_str().unwrap(), "--max-tokens", "1", "--runs", "1", "--device", "cpu"]);
    let told = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap().trim().to_owned();
    for name in ["a pass", "tokens a second"] {
        assert_eq!(told(&format!("decode: {name}")), "-", "{text}");
        assert_ne!(told(&format!("prefill: {name}")), "-", "{text}");
    }
}

/// Backends side by side, from one call.
#[cfg(feature = "ndarray")]
#[test]
fn bench_compares_backends() {
    let model = demo();
    let flags = ["--prompt-tokens", "8", "--max-tokens", "3", "--runs", "1", "--dtype", "float32"];
    let compare = [&["bench", model.to_str().unwrap(), "--compare", "cpu,ndarray"], &flags[..]].concat();
    let both = json(&compare);
    assert_eq!(both[0]["device"], "cpu");
    assert_eq!(both[1]["device"], "ndarray");
    assert_eq!(both[0]["tokens"], both[1]["tokens"]);
    let table = leveret(&compare);
    assert!(table.lines().next().unwrap().contains("cpu") && table.contains("decode: tokens a second"), "{table}");
}
