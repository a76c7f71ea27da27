use std::time::{Duration, Instant};

use burn::backend::Flex;
use leveret::{Error, Model, RunDtype};
use rstest::rstest;

use super::server::{Faults, MODEL, Server};
use crate::support::{demo, fixture, greedy, load};

const PROMPT: &str = "The mansion in Saville Row";

fn open(server: &Server) -> Model<Flex> {
    Model::builder(MODEL).hub(server.hub()).dtype(RunDtype::Float32).load().unwrap()
}

/// The plan is made of headers; weights that nobody uses are not downloaded.
#[test]
fn a_model_is_known_before_its_weights_are_there() {
    let server = Server::start(&demo());
    let model = open(&server);
    assert_eq!(model.checkpoint_bytes(), load(&demo()).checkpoint_bytes());
    assert_eq!(model.plan(1, 8, 8).unwrap().tiers.len(), model.units().len());
    let ranges: Vec<_> = server.requests().into_iter().filter(|request| request.path.starts_with("/storage")).collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert_eq!(ranges[0].range.as_deref(), Some("bytes=0-131071"));
    assert!(!server.snapshot().join("model.safetensors").exists());
}

/// Computing starts while the file is still coming, and ends as it does with the file on disk.
#[test]
fn layers_are_computed_as_they_arrive() {
    let server = Server::start(&demo());
    server.fail(Faults { hold_after: Some(2_000_000), ..Faults::default() });
    let expected = load(&demo()).generate(PROMPT, &greedy(12)).unwrap().0;
    let reply = std::thread::scope(|scope| {
        let reply = scope.spawn(|| {
            let mut model = open(&server);
            let reply = model.generate(PROMPT, &greedy(12)).unwrap().0;
            (reply, model.generate(PROMPT, &greedy(12)).unwrap().0)
        });
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(!reply.is_finished(), "half of the weights are not there yet");
        server.fail(Faults::default());
        reply.join().unwrap()
    });
    assert_eq!((&reply.0.tokens, &reply.1.tokens), (&expected.tokens, &expected.tokens));
    assert!(server.snapshot().join("model.safetensors").exists());
    server.requests();
    assert_eq!(server.hub().offline(true).dir(MODEL).unwrap(), server.snapshot());
}

/// A layer may lie in several shards, and they may come one at a time.
#[test]
fn shards_come_as_they_are_waited_for() {
    let (server, dir) = (Server::start(&fixture("llama_sharded")), fixture("llama_sharded"));
    let expected = load(&dir).generate(vec![5, 6, 7], &greedy(8)).unwrap().0;
    let hub = server.hub().files_at_once(1);
    let mut model = Model::<Flex>::builder(MODEL).hub(hub).dtype(RunDtype::Float32).load().unwrap();
    assert_eq!(model.generate(vec![5, 6, 7], &greedy(8)).unwrap().0.tokens, expected.tokens);
    drop(model);
    assert_eq!(server.hub().offline(true).dir(MODEL).unwrap(), server.snapshot());
}

/// Who waits for weights that will not come is told.
#[test]
fn a_download_that_fails_ends_the_pass() {
    let server = Server::start(&demo());
    let mut model = open(&server);
    server.fail(Faults { file_status: Some((403, "GatedRepo")), ..Faults::default() });
    let error = model.generate(PROMPT, &greedy(12)).unwrap_err();
    assert!(matches!(error, Error::Coming { .. }), "{error}");
    assert!(error.to_string().contains("accept its licence"), "{error}");
}

/// A reply is not begun with bytes that are not those of the hub.
#[test]
fn damaged_bytes_end_the_pass() {
    let server = Server::start(&demo());
    let mut model = open(&server);
    server.fail(Faults { damaged: Some(1_000_000), ..Faults::default() });
    let error = model.generate(PROMPT, &greedy(4)).unwrap_err();
    assert!(error.to_string().contains("have the SHA-256"), "{error}");
}

/// Whoever no longer waits is let go at once, wherever it waits: for rows of the embedding, or for a layer.
#[rstest]
#[case::embedding(0)]
#[case::a_layer(2_000_000)]
fn a_cancellation_ends_the_wait_for_bytes(#[case] held: usize) {
    let server = Server::start(&demo());
    let mut model = open(&server);
    let expected = load(&demo()).generate(PROMPT, &greedy(4)).unwrap().0;
    server.fail(Faults { hold_after: Some(held), ..Faults::default() });
    let cancellation = model.cancellation();
    let waited = std::thread::scope(|scope| {
        let reply = scope.spawn(|| model.generate(PROMPT, &greedy(4)));
        std::thread::sleep(Duration::from_millis(500));
        let asked = Instant::now();
        cancellation.cancel();
        let give_up = Instant::now() + Duration::from_secs(10);
        while !reply.is_finished() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(10));
        }
        let waited = reply.is_finished().then(|| asked.elapsed());
        server.fail(Faults::default());
        assert!(matches!(reply.join().unwrap(), Err(Error::Cancelled)));
        waited
    });
    assert!(waited.is_some_and(|waited| waited < Duration::from_secs(1)), "{waited:?}");
    // What has come meanwhile is of use, and the cancellation is over.
    assert_eq!(model.generate(PROMPT, &greedy(4)).unwrap().0.tokens, expected.tokens);
}
