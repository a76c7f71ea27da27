use std::path::Path;
use std::sync::{Arc, Mutex};

use leveret::{Error, PullEvent, RepoId};
use rstest::rstest;

use super::server::{COMMIT, Faults, MODEL, Server, TOKEN, etag};
use crate::support::{demo, fixture};

fn id() -> RepoId {
    MODEL.parse().unwrap()
}

fn assert_same(dir: &Path, original: &Path, file: &str) {
    assert!(std::fs::read(dir.join(file)).unwrap() == std::fs::read(original.join(file)).unwrap(), "{file}");
}

#[rstest]
#[case(demo())]
#[case(fixture("llama_sharded"))]
fn a_name_becomes_a_directory(#[case] original: std::path::PathBuf) {
    let server = Server::start(&original);
    server.add("pytorch_model.bin", b"run me");
    server.add("consolidated.safetensors", b"the same again");
    let dir = server.hub().token(TOKEN).pull(&id()).unwrap();
    assert_eq!(dir, server.snapshot());
    assert!(["README.md", "pytorch_model.bin", "consolidated.safetensors"].iter().all(|file| !dir.join(file).exists()));
    for file in std::fs::read_dir(&dir).unwrap() {
        assert_same(&dir, &original, file.unwrap().file_name().to_str().unwrap());
    }
    leveret::Checkpoint::open(&dir).unwrap();
    assert_eq!(std::fs::read_to_string(server.root().join("refs/main")).unwrap(), COMMIT);

    // What is there is not downloaded again; a commit is not even asked for.
    server.requests();
    server.hub().pull(&id()).unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.hub().dir(format!("{MODEL}@{COMMIT}")).unwrap(), dir);
    assert_eq!(server.requests().len(), 0);
}

/// The token is for the hub; where that sends its clients is another host.
#[test]
fn a_token_stays_with_the_hub() {
    let server = Server::start(&demo());
    server.hub().token(TOKEN).pull(&id()).unwrap();
    let requests = server.requests();
    let (storage, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.host.starts_with("localhost"));
    assert!(!storage.is_empty() && storage.iter().all(|request| request.authorization.is_none()), "{storage:?}");
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")), "{hub:?}");
    assert!(!format!("{:?}", server.hub().token(TOKEN)).contains(TOKEN));
}

#[test]
fn cut_connections_go_on_where_they_stopped() {
    let server = Server::start(&demo());
    server.fail(Faults { cuts: 2, cut_after: 1_000_000, busy: 1, ..Faults::default() });
    let retries = Arc::new(Mutex::new(0));
    let count = retries.clone();
    let hub = server.hub().on_event(move |event| {
        if let PullEvent::Retries { .. } = event {
            *count.lock().unwrap() += 1;
        }
    });
    assert_same(&hub.pull(&id()).unwrap(), &demo(), "model.safetensors");
    let ranges: Vec<_> = server.requests().into_iter().filter(|request| request.path.starts_with("/storage")).collect();
    let ranges: Vec<_> = ranges.iter().map(|request| request.range.as_deref().unwrap()).collect();
    assert_eq!(ranges, ["bytes=0-", "bytes=1000000-", "bytes=2000000-"]);
    assert_eq!(*retries.lock().unwrap(), 2);
}

#[test]
fn a_download_that_was_ended_goes_on() {
    let server = Server::start(&demo());
    server.fail(Faults { cuts: 9, cut_after: 0, ..Faults::default() });
    let partial = server
        .root()
        .join("blobs")
        .join(format!("{}.incomplete", etag(&std::fs::read(demo().join("model.safetensors")).unwrap())));
    let error = server.hub().pull(&id()).unwrap_err();
    assert!(matches!(&error, Error::Connection { .. }) && error.to_string().contains("where it stopped"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");

    let bytes = std::fs::read(demo().join("model.safetensors")).unwrap();
    std::fs::write(&partial, &bytes[..1234]).unwrap();
    server.fail(Faults::default());
    server.requests();
    assert_same(&server.hub().pull(&id()).unwrap(), &demo(), "model.safetensors");
    assert!(server.requests().iter().any(|request| request.range.as_deref() == Some("bytes=1234-")));
    assert!(!partial.exists());
}

#[test]
fn a_host_without_ranges_gives_all_again() {
    let server = Server::start(&demo());
    server.fail(Faults { cuts: 1, cut_after: 1_000_000, no_ranges: true, ..Faults::default() });
    assert_same(&server.hub().pull(&id()).unwrap(), &demo(), "model.safetensors");
}

#[test]
fn events_add_up() {
    let server = Server::start(&fixture("llama_sharded"));
    let sums = Arc::new(Mutex::new((0, 0, 0, 0)));
    let count = sums.clone();
    let hub = server.hub().on_event(move |event| {
        let (files, bytes, arrived, ended) = &mut *count.lock().unwrap();
        match event {
            PullEvent::Starts { files: more, bytes: all, .. } => (*files, *bytes) = (*files + more, *bytes + all),
            PullEvent::Arrived { bytes, .. } => *arrived += bytes,
            PullEvent::FileEnds { .. } => *ended += 1,
            _ => {}
        }
    });
    hub.pull(&id()).unwrap();
    let (files, bytes, arrived, ended) = *sums.lock().unwrap();
    assert!(files > 3 && files == ended && bytes > 0 && bytes == arrived, "{files} {bytes} {arrived} {ended}");
}

/// Whoever is second waits, and finds what the first has brought.
#[test]
fn two_at_once_download_once() {
    let server = Server::start(&demo());
    server.fail(Faults { hold_after: Some(1000), ..Faults::default() });
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..2).map(|_| scope.spawn(|| server.hub().pull(&id()).unwrap())).collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        server.fail(Faults::default());
        pulls.into_iter().for_each(|pull| assert_same(&pull.join().unwrap(), &demo(), "model.safetensors"));
    });
    let storage = server.requests().into_iter().filter(|request| request.path.starts_with("/storage"));
    assert_eq!(storage.count(), 1);
}
