//! Where weights are does not matter: results are equal to the bit.

use burn::backend::Flex;
use leveret::{Budget, Model, RunDtype, Transfer};
use rstest::rstest;

use crate::support::{demo, greedy, load, tiny};

const PROMPT: [u32; 9] = [3, 14, 15, 92, 65, 35, 89, 79, 32];

fn model(ram: Budget, transfer: Transfer) -> Model<Flex> {
    Model::builder(demo()).dtype(RunDtype::Float32).ram(ram).transfer(transfer).load().unwrap()
}

#[rstest]
fn streamed_equals_resident(
    #[values(Transfer::Sync, Transfer::Prefetch, Transfer::Async)] transfer: Transfer,
    #[values("min", "2 slots", "some resident")] ram: &str,
) {
    let want = model(Budget::Free, Transfer::Async).logits(&PROMPT, &[4, 1]).unwrap();
    let least = model(Budget::Min, transfer).plan(1, PROMPT.len(), 0).unwrap();
    let bytes = |slots: u64| Budget::Bytes(least.bytes() + (slots - 1) * least.devices[0].slot_len);
    let ram = match ram {
        "min" => Budget::Min,
        "2 slots" => bytes(2),
        _ => bytes(3),
    };
    let mut streamed = model(ram, transfer);
    let plan = streamed.plan(1, PROMPT.len(), 0).unwrap();
    assert!(!plan.is_resident());
    assert_eq!(streamed.logits(&PROMPT, &[4, 1]).unwrap(), want);
    // The stream goes on across passes and generations.
    assert_eq!(streamed.logits(&PROMPT, &[4, 1]).unwrap(), want);
}

#[test]
fn resident_units_are_read_once() {
    let mut model = load(&demo());
    let mut bytes = || {
        let (_, stats) = model.generate("The mansion", &greedy(3)).unwrap();
        stats.prefill.read_bytes + stats.decode.iter().map(|pass| pass.read_bytes).sum::<u64>()
    };
    let weights = bytes();
    assert!(weights > 3_000_000, "all weights are read at first: {weights}");
    assert_eq!(bytes(), 0);
}

#[test]
fn a_pass_reads_every_streamed_byte_once() {
    let mut model = Model::<Flex>::builder(demo()).ram(Budget::Min).load().unwrap();
    let weights = model.checkpoint_bytes();
    let (_, stats) = model.generate("The mansion", &greedy(4)).unwrap();
    assert_eq!(stats.resident_units, 0);
    // The head is tied: what is read for it are the bytes of the embedding.
    assert!(stats.decode.iter().chain([&stats.prefill]).all(|pass| pass.read_bytes == weights));
}

/// A head wider than a layer is cut, so that `min` is the size of a layer.
#[test]
fn the_head_streams_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    tiny(5003).write(dir.path(), 1).unwrap();
    let mut streamed = Model::<Flex>::builder(dir.path()).ram(Budget::Min).load().unwrap();
    let plan = streamed.plan(1, 4, 4).unwrap();
    assert!(plan.tiers.len() > 2 + 5, "{plan:?}");
    assert!(plan.devices[0].slot_len < 150_000, "{plan:?}");
    let mut whole = Model::<Flex>::from_pretrained(dir.path()).unwrap();
    let logits = streamed.logits(&PROMPT, &[]).unwrap();
    assert_eq!(logits, whole.logits(&PROMPT, &[]).unwrap());

    // The last position's alone, of several sequences at once.
    let prompts = [PROMPT.to_vec(), PROMPT[..3].to_vec()];
    let streamed = streamed.generate_batch(prompts.clone(), &greedy(6)).unwrap().0;
    assert_eq!(streamed, whole.generate_batch(prompts, &greedy(6)).unwrap().0);
    let last = logits.last().unwrap();
    assert_eq!(
        last.iter().position(|logit| last.iter().all(|other| other <= logit)),
        Some(streamed[0].tokens[0] as usize)
    );
}

/// Many passes over one slot: nothing waits for itself, and nothing drifts.
#[test]
fn a_thousand_units_through_one_slot() {
    let mut model = model(Budget::Min, Transfer::Async);
    let prompt = PROMPT.to_vec();
    let (first, _) = model.generate(prompt.clone(), &greedy(100)).unwrap();
    for _ in 0..3 {
        assert_eq!(model.generate(prompt.clone(), &greedy(100)).unwrap().0, first);
    }
}

/// One plan serves a long prompt and the tokens after it, and the next generation finds what stays where it was.
#[test]
fn a_generation_keeps_to_one_plan() {
    let least = Model::<Flex>::builder(demo()).ram(Budget::Min).load().unwrap().plan(1, 200, 4).unwrap();
    let ram = least.bytes() + 3 * least.devices[0].slot_len;
    let mut model = Model::<Flex>::builder(demo()).ram(Budget::Bytes(ram)).load().unwrap();
    let prompt: Vec<u32> = (0..200).map(|i| 100 + i % 900).collect();
    let mut streamed = Vec::new();
    for _ in 0..2 {
        let (_, stats) = model.generate(prompt.clone(), &greedy(4)).unwrap();
        assert!(stats.resident_units > 0 && stats.resident_units < stats.units, "{stats:?}");
        assert!(stats.planned_bytes <= ram);
        streamed.push(stats.prefill.read_bytes);
        streamed.extend(stats.decode.iter().map(|pass| pass.read_bytes));
    }
    let first = streamed.remove(0);
    assert!(first > streamed[0], "the first pass also reads what stays");
    assert!(streamed.iter().all(|bytes| *bytes == streamed[0]), "{streamed:?}");
}
