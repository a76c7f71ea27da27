use leveret::Error;

use super::server::{COMMIT, Faults, MODEL, Server};
use crate::support::{demo, fixture};

#[test]
fn offline_makes_no_request_and_says_what_is_missing() {
    let server = Server::start(&fixture("llama_sharded"));
    let offline = server.hub().offline(true);
    let text = offline.dir(MODEL).unwrap_err().to_string();
    assert!(
        text.contains("no directory org/demo")
            && text.contains("lacks all of it")
            && text.contains("`leveret pull org/demo`"),
        "{text}"
    );
    assert_eq!(server.requests().len(), 0);

    let dir = server.hub().pull(&MODEL.parse().unwrap()).unwrap();
    server.requests();
    assert_eq!(offline.dir(MODEL).unwrap(), dir);
    assert_eq!(offline.pull(&MODEL.parse().unwrap()).unwrap(), dir);
    let shard = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let shard = shard.filter(|name| name.ends_with(".safetensors")).min().unwrap();
    std::fs::remove_file(dir.join(&shard)).unwrap();
    let error = offline.dir(format!("{MODEL}@{COMMIT}")).unwrap_err();
    let Error::Offline { missing, .. } = &error else { panic!("{error}") };
    assert_eq!(missing, &[shard]);
    assert!(error.to_string().contains(&format!("`leveret pull {MODEL}@{COMMIT}`")));
    assert_eq!(server.requests().len(), 0);
}

/// What is there whole is used when the hub cannot be reached; a download that was asked for is an error.
#[test]
fn a_whole_model_does_without_the_hub() {
    let server = Server::start(&demo());
    let dir = server.hub().pull(&MODEL.parse().unwrap()).unwrap();
    server.fail(Faults { status: Some((500, "")), ..Faults::default() });
    server.requests();
    assert_eq!(server.hub().dir(MODEL).unwrap(), dir);
    assert_eq!(server.requests().len(), 1);
    assert!(matches!(server.hub().pull(&MODEL.parse().unwrap()), Err(Error::Connection { .. })));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_directory_wins_over_a_name() {
    let server = Server::start(&demo());
    assert_eq!(server.hub().dir(demo()).unwrap(), demo());
    assert_eq!(server.requests().len(), 0);
}
