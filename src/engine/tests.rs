//! Tiers, transfers and several devices, over devices that are made up: nothing but memory and time may differ.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use burn::backend::Flex;
use rstest::rstest;

use crate::models::weight::Format;
use crate::upload::simulated::SimulatedUpload;
use crate::{Budget, GenerateOptions, Model, Pack, RunDtype, Synth, Tier, Transfer};

const PROMPT: [u32; 9] = [3, 14, 15, 92, 65, 35, 89, 79, 32];

fn checkpoint(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A model on so many made-up devices.
fn simulated(name: &str, devices: usize, [vram, ram]: [Budget; 2], transfer: Transfer, delay: u64) -> Model<Flex> {
    Model::<Flex>::builder(checkpoint(name))
        .dtype(RunDtype::Float32)
        .devices(vec![Default::default(); devices])
        .vram(vram)
        .ram(ram)
        .transfer(transfer)
        .load_by(&|_| Ok(Arc::new(SimulatedUpload::new(Duration::from_micros(delay)))))
        .unwrap()
}

fn resident(name: &str) -> Model<Flex> {
    Model::builder(checkpoint(name)).dtype(RunDtype::Float32).load().unwrap()
}

/// Budgets that put units where their name says, for each of `devices`, while `seq` tokens get `more`.
fn budgets(tiers: &str, devices: u64, (seq, more): (usize, usize)) -> [Budget; 2] {
    let least = simulated("models/demo", 1, [Budget::Min; 2], Transfer::Async, 0).plan(1, seq, more).unwrap();
    let (bytes, slot) = (least.bytes(), least.devices[0].slot_len);
    let (ring, unit) = (128 << 20, slot + (16 << 10));
    match tiers {
        "all on disk" => [Budget::Bytes(bytes + slot), Budget::Min],
        "one slot" => [Budget::Min; 2],
        "all in host memory" => [Budget::Bytes(bytes + slot), Budget::Free],
        "all on the device" => [Budget::Free, Budget::Min],
        _ => [Budget::Bytes(bytes + 2 * slot), Budget::Bytes(devices * (ring + unit))],
    }
}

#[rstest]
fn tiers_and_devices_change_nothing(
    #[values("all on disk", "one slot", "all in host memory", "all on the device", "some in each tier")] tiers: &str,
    #[values(1, 2, 3)] devices: usize,
    #[values(Transfer::Sync, Transfer::Prefetch, Transfer::Async)] transfer: Transfer,
) {
    let want = resident("models/demo").logits(&PROMPT, &[4, 1]).unwrap();
    let mut model = simulated("models/demo", devices, budgets(tiers, devices as u64, (PROMPT.len(), 0)), transfer, 100);
    let plan = model.plan(1, PROMPT.len(), 0).unwrap();
    let count = |tier| plan.tiers.iter().filter(|at| **at == tier).count();
    let counts = [Tier::Device, Tier::Host, Tier::Disk].map(count);
    let all = plan.tiers.len();
    match tiers {
        "one slot" => assert_eq!(counts, [0, 0, all]),
        "all on the device" => assert_eq!(counts, [all, 0, 0]),
        // Each of several devices has fewer units, so that more of them fit.
        _ if devices > 1 => {
            assert!(plan.devices.iter().filter(|device| !device.units.is_empty()).count() > 1, "{plan:?}");
            assert!(counts[0] > 0 && counts[if tiers == "all on disk" { 1 } else { 2 }] == 0, "{counts:?}");
        }
        "all on disk" => assert_eq!(counts, [0, 0, all]),
        "all in host memory" => assert_eq!(counts, [0, all, 0]),
        _ => assert!(counts.iter().all(|count| *count > 0), "{counts:?}"),
    }
    for _ in 0..2 {
        assert!(model.logits(&PROMPT, &[4, 1]).unwrap() == want);
    }
}

/// Codes and scales of packed layers arrive like any other weights.
#[rstest]
fn packed_units_in_each_tier(
    #[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format,
    #[values("one slot", "some in each tier", "all on the device")] tiers: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    Pack::new(format).write::<Flex>(&checkpoint("tests/fixtures/qwen3"), dir.path()).unwrap();
    let name = dir.path().to_str().unwrap();
    let want = resident(name).logits(&PROMPT, &[4, 1]).unwrap();
    let mut model = simulated(name, 1, budgets(tiers, 1, (PROMPT.len(), 0)), Transfer::Async, 100);
    for _ in 0..2 {
        assert!(model.logits(&PROMPT, &[4, 1]).unwrap() == want);
    }
}

/// The device's memory for weights is what the plan says, at every moment of several generations.
#[test]
fn device_memory_stays_under_the_budget() {
    let mut model = simulated("models/demo", 1, budgets("some in each tier", 1, (200, 5)), Transfer::Async, 50);
    let mut most = 0;
    for prompt in [PROMPT.to_vec(), PROMPT[..2].to_vec(), (0..200).collect()] {
        let seq = prompt.len();
        let plan = model.plan(1, seq, 5).unwrap();
        let share = &plan.devices[0];
        let options = GenerateOptions { max_tokens: Some(5), ignore_eos: true, ..GenerateOptions::default() };
        let (_, stats) = model.generate(prompt, &options).unwrap();
        most = most.max(share.bytes - share.kv_cache - share.activations);
        let peak = stats.peak_device_bytes.unwrap();
        assert!(peak > 0 && peak <= most, "{peak} {most} {plan:?}");
    }
}

/// What lives in host memory is read once, what lives on the device is uploaded once.
#[test]
fn tiers_save_what_they_promise() {
    let mut model = simulated("models/demo", 1, budgets("some in each tier", 1, (PROMPT.len(), 4)), Transfer::Async, 0);
    let options = GenerateOptions { max_tokens: Some(4), ignore_eos: true, ..GenerateOptions::default() };
    let (_, stats) = model.generate(PROMPT.to_vec(), &options).unwrap();
    let all = stats.prefill.read_bytes;
    assert_eq!(stats.prefill.upload_bytes, all);
    for pass in &stats.decode {
        assert!(0 < pass.read_bytes && pass.read_bytes < pass.upload_bytes && pass.upload_bytes < all, "{pass:?}");
    }
}

/// A thousand passes with random delays everywhere give the tokens of a model that does not stream.
#[rstest]
fn a_thousand_passes_give_the_same_tokens(#[values(1, 2)] devices: usize) {
    let options = GenerateOptions {
        max_tokens: Some(250),
        temperature: Some(0.0),
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    let name = "tests/fixtures/llama";
    let want = resident(name).generate(PROMPT.to_vec(), &options).unwrap().0.tokens;
    let mut model = simulated(name, devices, [Budget::Min; 2], Transfer::Async, 200);
    for _ in 0..4 {
        assert_eq!(model.generate(PROMPT.to_vec(), &options).unwrap().0.tokens, want);
    }
}

/// The last position's logits are put together of parts that several devices have made.
#[rstest]
fn a_head_in_parts_on_several_devices(#[values(1, 2, 3)] devices: usize) {
    let dir = tempfile::tempdir().unwrap();
    let synth = Synth {
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 9001,
        ..Synth::preset("llama-3.2-1b").unwrap()
    };
    synth.write(dir.path(), 1).unwrap();
    let name = dir.path().to_str().unwrap();
    let options = GenerateOptions { max_tokens: Some(6), ignore_eos: true, ..GenerateOptions::default() };
    let prompts = [PROMPT.to_vec(), PROMPT[..3].to_vec()];
    let want = resident(name).generate_batch(prompts.clone(), &options).unwrap().0;
    let mut model = simulated(name, devices, [Budget::Min; 2], Transfer::Async, 0);
    let heads = model.units().into_iter().filter(|unit| unit.starts_with("the head")).count();
    assert!(heads > 4);
    assert_eq!(model.generate_batch(prompts, &options).unwrap().0, want);
}

/// A prompt is worked off in chunks: results are those of one chunk, and memory does not grow with its length, the
/// hidden states aside.
#[test]
fn chunks_change_nothing_but_memory() {
    let tokens: Vec<u32> = (0..230).map(|i| i * 13 % 1000).collect();
    let mut whole = resident("models/demo");
    assert_eq!(whole.plan(1, tokens.len(), 0).unwrap().chunk, tokens.len());
    let mut chunked =
        Model::<Flex>::builder(checkpoint("models/demo")).dtype(RunDtype::Float32).ram(Budget::Min).load().unwrap();
    assert!(chunked.plan(1, tokens.len(), 0).unwrap().chunk <= 32);
    let [want, got] = [&mut whole, &mut chunked].map(|model| model.logits(&tokens, &[100]).unwrap().concat());
    let difference = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= 5e-5, "{difference}");

    // What a longer prompt adds are its hidden states, its rotations, and the positions that chunks have before them.
    let dims = whole.dims();
    let position = 4 * (dims.hidden_size + dims.head_dim + 2 * 512 / 32) as u64;
    let activations = |seq: usize| chunked.plan(1, seq, 0).unwrap().devices[0].activations;
    assert!(activations(512) - activations(300) <= (512 - 300) * position);
}

/// Experts reach devices with memory of their own, stay there or in host memory as there is room, and change nothing.
#[rstest]
fn experts_in_each_tier(
    #[values("min", "some on the device", "some in host memory", "all")] tiers: &str,
    #[values(1, 2)] devices: usize,
    #[values(Transfer::Sync, Transfer::Prefetch, Transfer::Async)] transfer: Transfer,
) {
    let name = "tests/fixtures/mixtral";
    let want = resident(name).logits(&PROMPT, &[4, 1]).unwrap();
    let least = simulated(name, 1, [Budget::Min; 2], Transfer::Async, 0).plan(1, PROMPT.len(), 0).unwrap();
    let (slot, expert) = (least.devices[0].slot_len, least.devices[0].expert_slot_len);
    let more = Budget::Bytes(least.bytes() + 3 * slot + 3 * expert);
    let budgets = match tiers {
        "min" => [Budget::Min; 2],
        "some on the device" => [more, Budget::Min],
        "some in host memory" => [Budget::Min, Budget::Free],
        _ => [Budget::Free; 2],
    };
    let mut model = simulated(name, devices, budgets, transfer, 100);
    let plan = model.plan(1, PROMPT.len(), 0).unwrap();
    let share = &plan.devices[0];
    match tiers {
        "min" => assert_eq!((share.experts, share.host_experts), (1, 2)),
        // Each of several devices has fewer units, so that all of them fit.
        "some on the device" if devices > 1 => {}
        "some on the device" => assert!(share.experts > 1 && share.experts < share.all_experts, "{plan:?}"),
        "some in host memory" => assert_eq!((share.experts, share.host_experts), (1, share.all_experts)),
        _ => assert!(plan.is_resident()),
    }
    for _ in 0..2 {
        assert!(model.logits(&PROMPT, &[4, 1]).unwrap() == want);
    }
    let options = GenerateOptions { max_tokens: Some(6), ignore_eos: true, ..GenerateOptions::default() };
    let (_, stats) = model.generate(PROMPT.to_vec(), &options).unwrap();
    let read: usize = stats.decode.iter().map(|pass| pass.experts_read).sum();
    match tiers {
        "min" => assert!(read > 0),
        "some in host memory" => assert_eq!(read, 0, "all experts of the prompt are in host memory by now"),
        _ => {}
    }
    let planned = |seq, tokens| {
        let plan = model.plan(1, seq, tokens).unwrap();
        plan.devices.iter().map(|share| share.bytes - share.kv_cache - share.activations).sum::<u64>()
    };
    let peak = stats.peak_device_bytes.unwrap();
    assert!(peak <= planned(4, 0).max(planned(PROMPT.len(), 6)), "{peak} {plan:?}");
}
