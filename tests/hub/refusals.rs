use burn::backend::Flex;
use leveret::{Error, Model};
use rstest::rstest;

use super::server::{Faults, MODEL, Server, TOKEN, etag};
use crate::support::demo;

fn error(server: &Server, model: &str) -> Error {
    server.hub().token(TOKEN).pull(&model.parse().unwrap()).unwrap_err()
}

#[rstest]
#[case(401, "GatedRepo")]
#[case(403, "GatedRepo")]
#[case(403, "")]
fn a_gated_model_is_named_with_its_licence_and_the_way_in(#[case] status: u16, #[case] code: &'static str) {
    let server = Server::start(&demo());
    for faults in [
        Faults { status: Some((status, code)), ..Faults::default() },
        Faults { file_status: Some((status, code)), ..Faults::default() },
    ] {
        server.fail(faults);
        let text = error(&server, MODEL).to_string();
        let page = format!("licence at {}/{MODEL},", server.endpoint);
        for part in [MODEL, &page, &status.to_string(), "--token", "HF_TOKEN"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn what_is_not_there_is_told_apart() {
    let server = Server::start(&demo());
    let text = error(&server, "org/typo").to_string();
    assert!(text.contains("no model `org/typo`") && text.contains("nor a directory of that name"), "{text}");
    let text = error(&server, "org/demo@v2").to_string();
    assert!(text.contains("has no revision `v2`"), "{text}");
    server.fail(Faults { file_status: Some((404, "EntryNotFound")), ..Faults::default() });
    let text = error(&server, MODEL).to_string();
    assert!(text.contains("has no file `"), "{text}");
    server.fail(Faults { status: Some((401, "RepoNotFound")), ..Faults::default() });
    assert!(error(&server, MODEL).to_string().contains("no model `org/demo`"));
    // Nothing that was asked in vain is left behind.
    assert!(!server.root().exists() || !server.snapshot().exists());
}

/// Where the hub does not answer, a name may be that of a directory, mistyped.
#[test]
fn a_name_that_nobody_answers_for_may_be_a_path() {
    let server = Server::start(&demo());
    let hub = server.hub().endpoint("http://127.0.0.1:1");
    let text = Model::<Flex>::builder("models/dmo").hub(hub).load().err().unwrap().to_string();
    assert!(text.contains("there is no directory models/dmo") && text.contains("http://127.0.0.1:1/"), "{text}");
}

#[test]
fn pickles_are_refused_before_anything_is_downloaded() {
    let server = Server::start(&demo());
    server.remove("model.safetensors");
    server.add("pytorch_model.bin", b"run me");
    let text = error(&server, MODEL).to_string();
    assert!(text.contains("no weights in safetensors files") && text.contains("pickles"), "{text}");
    assert_eq!(server.requests().len(), 1);
    assert!(!server.root().exists());
}

#[test]
fn a_disk_that_is_too_small_is_told_before_the_download() {
    let server = Server::start(&demo());
    server.fail(Faults { listed: Some(1 << 58), ..Faults::default() });
    let error = error(&server, MODEL);
    let Error::DiskFull { needed, free, .. } = error else { panic!("{error}") };
    assert!(needed > 1 << 58 && free < 1 << 58);
    assert_eq!(server.requests().len(), 1);
}

/// A byte that is not what it was is found before the file has its name, whether it came now or in an earlier download.
#[rstest]
#[case::now(0)]
#[case::earlier(2_000_000)]
#[case::earlier_and_all(3_816_816)]
fn damaged_bytes_are_refused_and_removed(#[case] there: usize) {
    let server = Server::start(&demo());
    let bytes = std::fs::read(demo().join("model.safetensors")).unwrap();
    let expected = etag(&bytes);
    let mut damaged = bytes.clone();
    damaged[1_000_000] ^= 1;
    let blobs = server.root().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{expected}.incomplete")), &damaged[..there]).unwrap();
    server.fail(Faults { damaged: Some(1_000_000), ..Faults::default() });
    let text = error(&server, MODEL).to_string();
    for part in ["model.safetensors", &expected, &etag(&damaged), "give the command again"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let left = std::fs::read_dir(&blobs).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.contains(&expected)));
    server.fail(Faults::default());
    let dir = server.hub().pull(&MODEL.parse().unwrap()).unwrap();
    assert!(std::fs::read(dir.join("model.safetensors")).unwrap() == bytes);
}

#[test]
fn other_bytes_than_listed_are_refused() {
    let server = Server::start(&demo());
    server.fail(Faults { shorter: 1, ..Faults::default() });
    let text = error(&server, MODEL).to_string();
    assert!(text.contains("3816815 bytes are offered, the hub's list says 3816816"), "{text}");
    assert!(!text.contains("signature"), "{text}");
    let server = Server::start(&demo());
    server.fail(Faults { other_bytes: true, ..Faults::default() });
    let text = error(&server, MODEL).to_string();
    assert!(text.contains("other bytes are offered ("), "{text}");
}
