//! The command, as people call it.

use assert_cmd::Command;
use serde_json::Value;

use crate::support::fixture;

fn leveret(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("leveret").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command
}

fn stdout(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// Exit code 1, nothing on standard output, one line on standard error.
fn error(mut command: Command) -> String {
    let assert = command.assert().code(1).stdout("");
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

const GREEDY: [&str; 5] = ["--temperature", "0", "--max-tokens", "12", "--quiet"];

#[test]
fn generate_runs_the_demo_by_default() {
    let text = stdout(leveret(&[&["generate", "The mansion in Saville Row"], &GREEDY[..]].concat()));
    assert_eq!(text, "The mansion in Saville Row, though not sumptuous, was exceeding\n");
}

/// Elsewhere the demo is missing, and not a model of that name on the hub.
#[test]
fn the_default_is_a_directory() {
    let elsewhere = tempfile::tempdir().unwrap();
    for command in [&["generate", "Hi"][..], &["chat"], &["serve"], &["plan"], &["bench"]] {
        let mut leveret = leveret(command);
        // No hub is asked that answers.
        leveret.current_dir(&elsewhere).env("HF_ENDPOINT", "http://127.0.0.1:1");
        let text = error(leveret);
        assert!(text.contains("./models/demo") && !text.contains("hub"), "{command:?}: {text}");
    }
}

#[test]
fn a_batch_is_printed_prompt_by_prompt() {
    let text = stdout(leveret(&[&["generate", "The mansion in Saville Row", "Chapter"], &GREEDY[..]].concat()));
    assert!(text.starts_with("[1] The mansion in Saville Row, though not"), "{text}");
    assert!(text.contains("\n[2] Chapter"), "{text}");
}

#[test]
fn json_holds_replies_and_numbers() {
    let text = stdout(leveret(&[&["generate", "--json", "The mansion in Saville Row"], &GREEDY[..]].concat()));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["completions"][0]["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(json["completions"][0]["finish_reason"], "length");
    assert_eq!(json["stats"]["decode"].as_array().unwrap().len(), 11);
}

#[test]
fn a_prompt_comes_from_standard_input() {
    let mut command = leveret(&[&["generate", "-", "--no-echo"], &GREEDY[..]].concat());
    command.write_stdin("The mansion in Saville Row");
    assert_eq!(stdout(command), ", though not sumptuous, was exceeding\n");
}

#[test]
fn ids_go_in_and_out_without_a_tokenizer() {
    let dir = fixture("llama");
    let args = ["generate", "--tokens", "5,6,7", "--model", dir.to_str().unwrap()];
    let text = stdout(leveret(&[&args[..], &GREEDY[..]].concat()));
    assert_eq!(text.trim().split(',').count(), 12, "{text}");
}

#[test]
fn verify_compares_with_the_reference() {
    let dir = fixture("qwen3");
    let text = stdout(leveret(&["verify", dir.to_str().unwrap(), "--dtype", "float32"]));
    assert_eq!(text.matches("tokens equal").count(), 2, "{text}");
    assert!(text.contains("perplexity") && text.contains("mean KL"), "{text}");
}

/// What a flag does not do is said, and so is what it does to nobody's surprise.
#[test]
fn warnings_say_what_has_no_effect() {
    let says = |args: &[&str]| {
        let mut command = leveret(&[&["generate", "The mansion", "--quiet"], args].concat());
        String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
    };
    assert!(says(&["--max-tokens", "1", "--vram", "1GiB", "--device", "cpu"]).contains("warning: --vram says nothing"));
    assert!(says(&["--max-tokens", "0"]).contains("warning: --max-tokens is 0"));
    assert_eq!(says(&["--max-tokens", "1"]), "");
}

/// A disk is asked before the first byte is written.
#[test]
fn synth_asks_for_room_first() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = ["synth", out.to_str().unwrap(), "--preset", "llama-3.1-70b", "--num-hidden-layers", "10000"];
    let text = error(leveret(&args));
    assert!(text.contains("are needed there") && text.contains("are free"), "{text}");
    assert!(!out.exists());
}

/// Answers of another model are an error that says so.
#[test]
fn verify_tells_another_models_reference() {
    let reference = fixture("llama_extra").join("reference.safetensors");
    let dir = fixture("llama");
    let args = ["verify", dir.to_str().unwrap(), "--reference", reference.to_str().unwrap()];
    let text = error(leveret(&args));
    assert!(text.contains("logits are of 101 tokens each, the model's vocab_size is 128"), "{text}");
}

#[test]
fn a_packed_checkpoint_is_made_shown_and_compared() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("packed");
    let dir = dir.to_str().unwrap();
    let json = |args: &[&str]| serde_json::from_str::<Value>(&stdout(leveret(args))).unwrap();
    let report = json(&["pack", "models/demo", dir, "--bits", "8", "--json"]);
    assert_eq!((&report["format"], &report["bits_per_weight"]), (&"int8".into(), &8.5.into()));
    let text = stdout(leveret(&["pack", "models/demo", dir, "--bits", "8"]));
    assert!(text.contains("int8, 8.50 bits a weight") && text.contains("1 of them from an earlier run"), "{text}");
    assert!(stdout(leveret(&["info", dir])).contains("int8"));
    assert!(stdout(leveret(&["plan", dir, "--ram", "min"])).contains("a token takes"));
    let text = stdout(leveret(&[&["generate", "--model", dir, "The mansion in Saville Row"], &GREEDY[..]].concat()));
    assert_eq!(text, "The mansion in Saville Row, though not sumptuous, was exceeding\n");

    let words = out.path().join("text");
    std::fs::write(&words, "The mansion in Saville Row, though not sumptuous, was exceedingly comfortable.").unwrap();
    let verify = ["verify", dir, "--against", "models/demo", "--text", words.to_str().unwrap(), "--window", "8"];
    let comparison = json(&[&verify[..], &["--json"]].concat());
    assert!(comparison["windows"].as_u64().unwrap() > 2, "{comparison}");
    assert!(comparison["tokens"].as_u64().unwrap() > 16, "{comparison}");
    for field in ["perplexity", "reference_perplexity", "mean_kl", "max_kl", "same_argmax"] {
        assert!(comparison[field].as_f64().unwrap() > 0.0, "{field}: {comparison}");
    }
    assert!(stdout(leveret(&verify)).contains("perplexity: "));

    let windows = [&verify[..6], &["--window", "5000"]].concat();
    std::fs::write(&words, "The mansion. ".repeat(200)).unwrap();
    assert!(error(leveret(&windows)).contains("the model has 512 positions; lower --window"));
    std::fs::write(&words, "").unwrap();
    assert!(error(leveret(&verify)).contains("the text has 0 tokens; give one of at least 2"));
    let others = fixture("llama");
    let verify = ["verify", "models/demo", "--against", others.to_str().unwrap(), "--text", words.to_str().unwrap()];
    assert!(error(leveret(&verify)).contains("models/demo: has other vocab_size than"));
    assert!(error(leveret(&verify)).contains("(1536 and 128); compare models"));
    let text = error(leveret(&["pack", "models/demo", dir, "--bits", "4"]));
    assert!(text.contains("choose an empty directory"), "{text}");
    assert!(error(leveret(&["pack", dir, "nowhere", "--bits", "4"])).contains("packed already (int8)"));
    let mut wrong = leveret(&["pack", "models/demo", "nowhere", "--bits", "4", "--float"]);
    let wrong = wrong.assert().code(2).get_output().stderr.clone();
    let wrong = String::from_utf8(wrong).unwrap();
    assert!(wrong.contains("no format of floats") && wrong.contains("leveret pack"), "{wrong}");
}

/// Answers that are not numbers, or not as many as questions, agree with nothing.
#[test]
fn verify_is_not_fooled() {
    let dir = fixture("llama");
    let bytes = std::fs::read(dir.join("reference.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let nan = f32::NAN.to_le_bytes().repeat(1 << 16);
    let spoilt = tempfile::tempdir().unwrap();
    let write = |name: &str, spoil: &dyn Fn(&str) -> bool| {
        let tensors = file.iter().filter(|(name, _)| *name != "batch_mask" || !spoil(name)).map(|(name, tensor)| {
            let data = if spoil(name) { &nan[..tensor.data().len()] } else { tensor.data() };
            (name, safetensors::tensor::TensorView::new(tensor.dtype(), tensor.shape().to_vec(), data).unwrap())
        });
        let path = spoilt.path().join(name);
        safetensors::serialize_to_file(tensors.collect::<Vec<_>>(), None, &path).unwrap();
        path
    };
    let run = |path: std::path::PathBuf| {
        let args = ["verify", dir.to_str().unwrap(), "--reference", path.to_str().unwrap()];
        let assert = leveret(&args).assert().code(1);
        String::from_utf8(assert.get_output().stderr.clone()).unwrap()
    };
    assert!(run(write("nan", &|name| name == "greedy_logits")).contains("logits differ by more than"));
    assert!(run(write("mask", &|name| name == "batch_mask")).contains("tensor `batch_mask` is missing"));
}

#[test]
fn info_lists_families_and_describes_a_checkpoint() {
    assert!(stdout(leveret(&["info"])).contains("qwen3"));
    let text = stdout(leveret(&["info", "models/demo", "--ram", "min"]));
    assert!(text.contains("0 of 5 units resident, 1 slots"), "{text}");
    let memory = text.lines().find(|line| line.starts_with("memory: ")).unwrap();
    assert!(!memory.contains("disk") && text.lines().any(|line| line == "disk:   3.6 MiB"), "{text}");
    let text = stdout(leveret(&["info", fixture("mamba2").to_str().unwrap()]));
    assert!(text.contains("positions      without end") && !text.contains("heads"), "{text}");
}

#[test]
fn errors_are_one_line_and_exit_code_1() {
    let prompt = ["generate", "x"];
    let with = |args: &[&str]| error(leveret(&[&prompt, args].concat()));
    assert_eq!(
        with(&["--model", "nowhere"]),
        "error: nowhere/config.json: No such file or directory (os error 2); check the path\n"
    );
    assert!(with(&["--ram", "1KiB"]).contains("a budget of 1.0 KiB is too small: the least is"));
    assert!(with(&["--max-tokens", "600"]).contains("there is room for 512"));
    assert!(with(&["--top-p", "2"]).contains("top_p is 2, expected more than 0 and at most 1"));
    let plain = crate::support::copy_of(&crate::support::demo());
    std::fs::remove_file(plain.path().join("chat_template.jinja")).unwrap();
    let no_template = with(&["--chat", "--model", plain.path().to_str().unwrap()]);
    assert!(no_template.contains("there is no chat template here"), "{no_template}");
    let dir = fixture("llama");
    assert!(
        with(&["--model", dir.to_str().unwrap()]).contains("there is no tokenizer.json here; give token ids (--tokens")
    );
    assert!(error(leveret(&["verify", "models/demo"])).contains("there is no such file; give one with --reference"));
    assert!(error(leveret(&["generate", ""])).contains("the prompt is empty"));
    assert!(error(leveret(&["generate", "--tokens", "1,5000"])).contains("token id 5000 is out of range"));
}

/// Wrong flags are the command line's own error.
#[test]
fn wrong_flags_exit_with_2() {
    for (flag, value, message) in [
        ("--device", "tpu", "unknown device `tpu`; expected auto, cpu"),
        ("--device", "cpu,ndarray", "several devices have to be of one kind"),
        ("--device", "cpu:1", "there is one of it"),
        ("--device", "cuda", "this build has no `cuda`"),
        ("--max-tokens", "-1", "expected a whole number of at least 0"),
        ("--top-k", "-1", "expected a whole number of at least 0"),
        ("--ram", "lots", "`lots` is not a size"),
        ("--dtype", "int8", "unknown dtype `int8`"),
        ("--attention", "fast", "invalid value 'fast'"),
        ("--transfer", "later", "unknown transfer mode `later`"),
    ] {
        let output = leveret(&["generate", "x", flag, value]).assert().code(2);
        let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(text.contains(message), "{flag} {value}: {text}");
    }
    for (args, message) in [
        (&["pack", "models/demo", "out"][..], "--bits <BITS>"),
        (&["pack", "models/demo", "out", "--bits", "3"], "invalid value '3'"),
        (&["pack", "models/demo", "out", "--bits", "8", "--max-shard-size", "min"], "`min` is not the size of a file"),
        (&["verify", "models/demo", "--against", "models/demo"], "--text <FILE>"),
        (&["verify", "models/demo", "--text", "README.md"], "--against <MODEL>"),
        (&["verify", "models/demo", "--against", "a", "--text", "b", "--window", "1"], "at least 2"),
    ] {
        let output = leveret(args).assert().code(2);
        let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(text.contains(message), "{args:?}: {text}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::{Command, Stdio};
    let exe = assert_cmd::cargo::cargo_bin("leveret");
    let mut child = Command::new(exe).arg("info").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
