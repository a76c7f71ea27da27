use leveret::RepoId;

use super::server::{COMMIT, MODEL, Server};
use crate::support::{demo, fixture};

fn id() -> RepoId {
    MODEL.parse().unwrap()
}

#[test]
fn links_are_as_python_makes_them() {
    let server = Server::start(&demo());
    server.add("additional_chat_templates/tool.jinja", b"{{ messages }}");
    let dir = server.hub().pull(&id()).unwrap();
    let target = std::fs::read_link(dir.join("config.json")).unwrap();
    assert!(target.starts_with("../../blobs"), "{target:?}");
    let target = std::fs::read_link(dir.join("additional_chat_templates/tool.jinja")).unwrap();
    assert!(target.starts_with("../../../blobs"), "{target:?}");
    let blobs: Vec<_> = std::fs::read_dir(server.root().join("blobs")).unwrap().collect();
    assert_eq!(blobs.len(), 7, "{blobs:?}");
}

#[test]
fn the_cache_is_listed_with_what_is_missing() {
    let server = Server::start(&fixture("llama_sharded"));
    assert_eq!(server.hub().cached().unwrap(), []);
    let dir = server.hub().pull(&id()).unwrap();
    let [model] = &server.hub().cached().unwrap()[..] else { panic!("one model is there") };
    assert_eq!((&*model.model, &*model.commit, &model.revisions[..]), (MODEL, COMMIT, &["main".to_owned()][..]));
    assert!(model.bytes > 0 && model.last_used > 1_700_000_000 && model.missing.is_empty(), "{model:?}");
    let shard = dir.join("part-a.safetensors");
    let blob = std::fs::canonicalize(&shard).unwrap();
    std::fs::rename(&blob, blob.with_extension("incomplete")).unwrap();
    let [model] = &server.hub().cached().unwrap()[..] else { panic!("one model is there") };
    assert!(model.missing == ["part-a.safetensors"] && model.partial_bytes > 0, "{model:?}");
}

/// A commit goes with what no other commit has; without a revision the model goes.
#[test]
fn only_what_was_named_is_removed() {
    let server = Server::start(&demo());
    let dir = server.hub().pull(&id()).unwrap();
    let (other, blobs) = (dir.with_file_name("0".repeat(40)), server.root().join("blobs"));
    std::fs::create_dir(&other).unwrap();
    std::fs::write(blobs.join("own"), "1234").unwrap();
    std::os::unix::fs::symlink("../../blobs/own", other.join("own")).unwrap();
    std::fs::copy(dir.join("config.json"), blobs.join("copy")).unwrap();
    std::os::unix::fs::symlink(std::fs::read_link(dir.join("config.json")).unwrap(), other.join("config.json"))
        .unwrap();

    let removal = server.hub().removal(&format!("{MODEL}@{}", "0".repeat(40)).parse().unwrap()).unwrap();
    assert_eq!(removal.bytes(), 4);
    assert!(other.exists());
    removal.remove().unwrap();
    assert!(!other.exists() && !blobs.join("own").exists());
    assert_eq!(server.hub().offline(true).dir(MODEL).unwrap(), dir);

    std::fs::create_dir(server.cache.path().join("models--org--else")).unwrap();
    server.hub().removal(&id()).unwrap().remove().unwrap();
    assert!(!server.root().exists() && server.cache.path().join("models--org--else").exists());
    let error = server.hub().removal(&id()).unwrap_err().to_string();
    assert!(error.contains("org/demo is not in the cache"), "{error}");
}
