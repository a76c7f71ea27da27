//! What a conversation has computed is kept between its turns, after a cancellation, and on disk.

use leveret::Error;
use rstest::rstest;
use serde_json::json;

use crate::support::{demo, fixture, greedy, load};

#[rstest]
fn a_turn_computes_what_is_new(
    #[values("llama", "mistral", "qwen3_sliding", "phi3_crossing", "gemma3n", "llama4_chunked", "qwen3_5", "lfm2")]
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

/// A reply that was written down half way goes on in another process with the tokens that it would have had.
#[test]
fn a_session_goes_on_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.session");
    let options = leveret::GenerateOptions { temperature: Some(1.0), seed: Some(11), ..greedy(12) };
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
    let other_seed = leveret::GenerateOptions { seed: None, ..options };
    let (replies, stats) = model.stream_in(&mut session, prompt, &other_seed).unwrap().finish().unwrap();
    assert_eq!((&replies[0].tokens, stats.prefill.tokens), (&want, 1));

    let error = load(&fixture("llama")).load_session(&path, 64).unwrap_err().to_string();
    assert!(error.contains("chat.session") && error.contains("another model"), "{error}");
    std::fs::write(&path, b"nonsense").unwrap();
    assert!(model.load_session(&path, 128).is_err());
}
