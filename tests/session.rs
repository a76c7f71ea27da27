//! What a conversation has computed is kept between its turns, after a cancellation, and on disk.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use burn::backend::Flex;
use burn::prelude::Tensor;
use leveret::models::layers::{Attention, AttentionInput, Eager};
use leveret::{Backend, Budget, Cancellation, Error, FinishReason, GenerateOptions, Model, RunDtype};
use rstest::rstest;
use safetensors::SafeTensors;
use serde_json::json;

use crate::support::{copy_of, demo, fixture, greedy, load};

#[rstest]
fn a_turn_computes_what_is_new(
    #[values(
        "llama",
        "mistral",
        "qwen3_sliding",
        "phi3_crossing",
        "gemma3n",
        "llama4_chunked",
        "qwen3_5",
        "lfm2",
        "kimi_linear"
    )]
    name: &str,
) {
    let mut model = load(&fixture(name));
    let first: Vec<u32> = (1..20).collect();
    let reply = model.generate(first.clone(), &greedy(6)).unwrap().0.tokens;
    let second = [first.clone(), reply.clone(), vec![7, 8, 9]].concat();
    let want = model.generate(second.clone(), &greedy(6)).unwrap().0.tokens;
    let other = [&first[..10], &[3, 2, 1]].concat();
    let want_other = model.generate(other.clone(), &greedy(6)).unwrap().0.tokens;

    let mut session = model.session(64).unwrap();
    assert_eq!(model.stream_in(&mut session, first, &greedy(6)).unwrap().finish().unwrap().0[0].tokens, reply);
    let (replies, stats) = model.stream_in(&mut session, second, &greedy(6)).unwrap().finish().unwrap();
    assert_eq!(replies[0].tokens, want);
    // The last token of the reply was chosen and not yet read.
    assert_eq!(stats.prefill.tokens, 1 + 3);
    let (replies, stats) = model.stream_in(&mut session, other, &greedy(6)).unwrap().finish().unwrap();
    assert_eq!(replies[0].tokens, want_other);
    assert!(stats.prefill.tokens == 3 || stats.prefill.tokens == 13, "a window may have forgotten the rest");
}

#[test]
fn a_cancelled_reply_leaves_the_session_as_it_was() {
    let mut model = load(&demo());
    let want = model.generate("The mansion in Saville Row", &greedy(8)).unwrap().0;
    let mut session = model.session(128).unwrap();
    let cancellation = model.cancellation();
    let mut reply = model.stream_in(&mut session, "The mansion in Saville Row", &greedy(8)).unwrap();
    let first = reply.next().unwrap().unwrap();
    cancellation.cancel();
    assert!(matches!(reply.next(), Some(Err(Error::Cancelled))));
    assert!(reply.next().is_none());
    drop(reply);
    // The reply goes on where it was.
    let (replies, stats) =
        model.stream_in(&mut session, "The mansion in Saville Row", &greedy(8)).unwrap().finish().unwrap();
    assert_eq!((replies[0].tokens[0], &replies[0].tokens), (first.id, &want.tokens));
    assert_eq!((stats.prefill.tokens, stats.decode.len()), (1, 6));
}

/// Attention that ends the pass of a certain call.
#[derive(Debug, Default)]
struct Interrupted {
    calls_left: AtomicUsize,
    cancellation: OnceLock<Cancellation>,
}

/// One that the test holds on to.
#[derive(Debug, Clone, Default)]
struct Interrupt(Arc<Interrupted>);

impl<B: Backend> Attention<B> for Interrupt {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        if self.0.calls_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.cancellation.get().unwrap().cancel();
        }
        Eager.forward(input)
    }
}

/// Wherever a pass is cancelled, the reply goes on with the tokens that it would have had, or the next one is right.
#[rstest]
fn a_pass_cancelled_at_any_layer_spoils_nothing(
    #[values(
        "llama",
        "mistral",
        "phi3_crossing",
        "llama_rope_dynamic",
        "llama4_chunked",
        "qwen3_5",
        "kimi_linear",
        "gemma3n"
    )]
    name: &str,
    #[values(true, false)] again: bool,
) {
    let interrupt = Interrupt::default();
    let builder = Model::<Flex>::builder(fixture(name)).dtype(RunDtype::Float32);
    let mut model = builder.custom_attention(interrupt.clone()).load().unwrap();
    interrupt.0.cancellation.set(model.cancellation()).unwrap();
    let first: Vec<u32> = (1..8).collect();
    let longer = [&first[..], &[9; 12]].concat();
    let shorter = [&first[..], &[5, 6]].concat();
    let mut run = |cancel_at: usize| {
        interrupt.0.calls_left.store(cancel_at, Ordering::Relaxed);
        let mut session = model.session(24).unwrap();
        let mut cancelled = false;
        let mut turn = |prompt: &[u32], max_tokens| loop {
            let generation = model.stream_in(&mut session, prompt.to_vec(), &greedy(max_tokens)).unwrap();
            match generation.finish() {
                Ok((replies, _)) => return Some(replies[0].tokens.clone()),
                Err(Error::Cancelled) => cancelled = true,
                Err(error) => panic!("cancelled at {cancel_at}: {error}"),
            }
            if !again {
                return None;
            }
        };
        let replies = [turn(&first, 6), turn(&longer, 5), turn(&shorter, 4)];
        (replies, cancelled)
    };
    let (want, _) = run(usize::MAX);
    for cancel_at in 1.. {
        let (found, cancelled) = run(cancel_at);
        let pairs = want.iter().zip(&found).filter(|(_, found)| found.is_some());
        assert!(pairs.clone().all(|(want, found)| want == found), "cancelled at {cancel_at}: {want:?} {found:?}");
        if !cancelled {
            assert!(cancel_at > 10);
            break;
        }
    }
}

/// Nor does a layer go on with the chunks of a long prompt.
#[test]
fn a_pass_is_cancelled_between_chunks() {
    let interrupt = Interrupt::default();
    let builder = Model::<Flex>::builder(demo()).dtype(RunDtype::Float32).ram(Budget::Min);
    let mut model = builder.custom_attention(interrupt.clone()).load().unwrap();
    interrupt.0.cancellation.set(model.cancellation()).unwrap();
    let prompt: Vec<u32> = (0..230).map(|i| i * 13 % 1000).collect();
    let mut session = model.session(240).unwrap();
    let mut reply = |cancel_at| {
        interrupt.0.calls_left.store(cancel_at, Ordering::Relaxed);
        model.stream_in(&mut session, prompt.clone(), &greedy(4)).unwrap().finish()
    };
    assert!(matches!(reply(2), Err(Error::Cancelled)));
    assert_eq!(interrupt.0.calls_left.load(Ordering::Relaxed), 0, "the second chunk of the first layer was the last");
    let (found, _) = reply(usize::MAX).unwrap();
    let (want, _) = load(&demo()).stream(prompt.clone(), &greedy(4)).unwrap().finish().unwrap();
    assert_eq!(found[0].tokens, want[0].tokens);
}

/// A session in memory is of one model too; the same checkpoint loaded again is the same.
#[test]
fn a_session_is_refused_by_another_model() {
    let mut model = load(&fixture("llama"));
    let mut session = model.session(64).unwrap();
    let want = model.stream_in(&mut session, vec![5u32, 6], &greedy(4)).unwrap().finish().unwrap().0;
    drop(model);
    let error = load(&demo()).stream_in(&mut session, vec![5u32, 6], &greedy(4)).err().unwrap().to_string();
    assert!(error.starts_with("this session was made with 2 layers of "), "{error}");
    let mut again = load(&fixture("llama"));
    assert_eq!(again.stream_in(&mut session, vec![5u32, 6], &greedy(4)).unwrap().finish().unwrap().0, want);
}

/// What was said of a reply is given again as far as it is asked for, also after a call that failed.
#[test]
fn a_reply_goes_on_within_what_is_asked_for() {
    let mut model = load(&demo());
    let mut session = model.session(128).unwrap();
    let prompt = "The mansion in Saville Row";
    let options = GenerateOptions { temperature: Some(1.0), seed: Some(4), ..greedy(9) };
    let want = model.generate(prompt, &options).unwrap().0.tokens;
    let mut reply = model.stream_in(&mut session, prompt, &options).unwrap();
    (0..5).for_each(|_| drop(reply.next().unwrap().unwrap()));
    drop(reply);
    let other_seed = GenerateOptions { seed: Some(5), ..options };
    let wrong = GenerateOptions { top_p: Some(7.0), ..other_seed.clone() };
    assert!(model.stream_in(&mut session, prompt, &wrong).is_err());
    assert!(model.stream_in(&mut session, prompt, &greedy(1000)).is_err());
    let fewer = GenerateOptions { max_tokens: Some(7), ..other_seed.clone() };
    let mut reply = model.stream_in(&mut session, prompt, &fewer).unwrap();
    assert_eq!(reply.by_ref().take(6).map(|token| token.unwrap().id).collect::<Vec<_>>(), want[..6]);
    drop(reply);
    let fewer = GenerateOptions { max_tokens: Some(2), ..other_seed };
    let (replies, _) = model.stream_in(&mut session, prompt, &fewer).unwrap().finish().unwrap();
    assert_eq!((&replies[0].tokens[..], replies[0].finish_reason), (&want[..2], Some(FinishReason::Length)));
}

/// A reply that was written down half way goes on in another process with the tokens that it would have had.
#[test]
fn a_session_goes_on_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.session");
    let options = GenerateOptions { temperature: Some(1.0), seed: Some(11), ..greedy(12) };
    let prompt = "The mansion in Saville Row";
    let mut model = load(&demo());
    let want = model.generate(prompt, &options).unwrap().0.tokens;
    {
        let mut session = model.session(128).unwrap();
        let mut reply = model.stream_in(&mut session, prompt, &options).unwrap();
        (0..5).for_each(|_| drop(reply.next().unwrap().unwrap()));
        reply.save_session(&path, &json!({"turn": 1})).unwrap();
    }
    let mut model = load(&demo());
    let (mut session, note) = model.load_session(&path, 128).unwrap();
    assert_eq!(note, json!({"turn": 1}));
    let other_seed = GenerateOptions { seed: None, ..options };
    let (replies, stats) = model.stream_in(&mut session, prompt, &other_seed).unwrap().finish().unwrap();
    assert_eq!((&replies[0].tokens, stats.prefill.tokens), (&want, 1));

    std::fs::write(&path, b"nonsense").unwrap();
    assert!(model.load_session(&path, 128).is_err());
}

/// Cuts a checkpoint of one file into two.
fn shard(dir: &Path) {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let half = tensors.split_off(tensors.len() / 2);
    let mut weight_map = serde_json::Map::new();
    for (file, tensors) in [("1.safetensors", half), ("2.safetensors", tensors)] {
        weight_map.extend(tensors.iter().map(|(name, _)| (name.clone(), json!(file))));
        safetensors::serialize_to_file(tensors, None, &dir.join(file)).unwrap();
    }
    let index = json!({ "weight_map": weight_map }).to_string();
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    std::fs::remove_file(dir.join("model.safetensors")).unwrap();
}

/// What a session has computed is of use to the same weights under the same config alone, wherever they lie.
#[rstest]
#[case::the_same("")]
#[case::other_files("files")]
#[case::other_sizes("qwen2")]
#[case::other_dtype("dtype")]
#[case::other_weights("weights")]
#[case::other_config("config")]
fn a_session_is_of_one_checkpoint(#[case] change: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.session");
    let mut model = load(&fixture("llama"));
    let mut session = model.session(64).unwrap();
    model.stream_in(&mut session, vec![5u32, 6, 7], &greedy(4)).unwrap().finish().unwrap();
    model.save_session(&session, &path, &json!(null)).unwrap();

    let copy = copy_of(&fixture(if change == "qwen2" { change } else { "llama" }));
    let edit = |file: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let path = copy.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        edit(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    match change {
        "weights" => edit("model.safetensors", &|bytes| {
            // The smallest tensor, by its last bits.
            let file = SafeTensors::deserialize(bytes).unwrap();
            let norm = file.tensor("model.norm.weight").unwrap().data().to_vec();
            let start = bytes.windows(norm.len()).position(|window| window == norm).unwrap();
            bytes[start..][..norm.len()].iter_mut().step_by(4).for_each(|byte| *byte ^= 1);
        }),
        "config" => edit("config.json", &|bytes| {
            let config = String::from_utf8(bytes.clone()).unwrap();
            assert!(config.contains("10000.0"));
            *bytes = config.replace("10000.0", "20000.0").into_bytes();
        }),
        "files" => shard(copy.path()),
        _ => {}
    }
    let dtype = if change == "dtype" { RunDtype::Bfloat16 } else { RunDtype::Float32 };
    let mut other = Model::<Flex>::builder(copy.path()).dtype(dtype).load().unwrap();
    let loaded = other.load_session(&path, 64);
    if change.is_empty() || change == "files" {
        assert_eq!(loaded.unwrap().0.len(), session.len());
        return;
    }
    let error = loaded.unwrap_err().to_string();
    let parts = ["chat.session: ", "was made with 2 layers of ", "; load that one, or give another name"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}
