use rstest::rstest;
use serde_json::{Value, json};

use super::running::{Server, whole};
use crate::support::{copy_of, demo};

#[test]
fn other_paths_are_answered_too() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/health"), (200, r#"{"status":"ok"}"#.to_owned()));
    let models: Value = serde_json::from_str(&server.get("/v1/models").1).unwrap();
    assert_eq!(models["data"][0]["id"], "demo");
    assert_eq!(server.get("/v1/models/demo").0, 200);
    assert_eq!(server.get("/v1/models/some/other").0, 404);
    let (status, body) = server.ask("POST", "/v1/chat/completions", "", "{");
    assert!(status == 400 && body.contains("the body is not JSON"), "{body}");
    let (status, body) = server.ask("POST", "/v1/chat/completions", "", "[]");
    assert!(status == 400 && body.contains("the body is [], expected an object"), "{body}");
    let (status, page) = server.get("/");
    assert!(status == 200 && page.contains("<title>Leveret</title>"), "{page}");
    assert!(!page.contains("src=") && !page.contains("http"), "the page needs nothing from elsewhere");
}

/// Texts are gone on with where there is no template for conversations.
#[test]
fn without_a_template_there_are_completions() {
    let copy = copy_of(&demo());
    std::fs::remove_file(copy.path().join("chat_template.jinja")).unwrap();
    let server = Server::of(copy.path(), &[]);
    let (status, body) = server.chat(json!({}));
    assert!(status == 400 && body.to_string().contains("no chat template here"), "{body}");
    let (status, body) = server.post("/v1/completions", &json!({"prompt": "Phileas", "max_tokens": 2}));
    assert_eq!((status, &body["usage"]["completion_tokens"]), (200, &json!(2)), "{body}");
}

/// And token ids where there is no tokenizer either.
#[test]
fn without_a_tokenizer_there_are_token_ids() {
    let copy = copy_of(&demo());
    std::fs::remove_file(copy.path().join("tokenizer.json")).unwrap();
    let server = Server::of(copy.path(), &[]);
    let ask = |more: Value| {
        let mut body = json!({"prompt": [50, 60], "max_tokens": 2, "ignore_eos": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    for more in [json!({"prompt": "Phileas"}), json!({"response_format": {"type": "json_object"}})] {
        let (status, body) = ask(more);
        assert!(status == 400 && body.to_string().contains("send token ids"), "{status} {body}");
    }
    assert_eq!(ask(json!({})).0, 200);
}

#[test]
fn a_key_is_asked_for() {
    let server = Server::start(&["--api-key", "secret"]);
    let ask = |headers: &str| server.ask("GET", "/v1/models", headers, "").0;
    assert_eq!(
        [ask(""), ask("Authorization: Bearer wrong\r\n"), ask("Authorization: Bearer secret\r\n")],
        [401, 401, 200]
    );
    assert_eq!([server.get("/health").0, server.get("/").0], [200, 200]);
}

#[rstest]
#[case("GET", "/nowhere", 404, "")]
#[case("POST", "/v1/embeddings", 404, "")]
#[case("GET", "/v1/chat/completions", 405, "allow: post")]
#[case("PUT", "/v1/completions", 405, "allow: post")]
#[case("POST", "/v1/models", 405, "allow: get,head")]
#[case("OPTIONS", "/v1/models", 405, "allow: get,head")]
#[case("DELETE", "/health", 405, "allow: get,head")]
fn what_is_not_there_is_said(#[case] method: &str, #[case] path: &str, #[case] status: u16, #[case] more: &str) {
    let server = Server::start(&[]);
    let (head, body) = whole(server.send(method, path, "", ""));
    assert!(head.starts_with(&format!("http/1.1 {status}")) && head.contains(more), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(body["error"]["message"].is_string(), "{body}");
}

#[rstest]
#[case("/", 200)]
#[case("/health", 200)]
#[case("/v1/models", 200)]
#[case("/metrics", 200)]
#[case("/nowhere", 404)]
fn heads_are_answered_without_a_body(#[case] path: &str, #[case] status: u16) {
    let server = Server::start(&[]);
    let (head, body) = whole(server.send("HEAD", path, "", ""));
    assert!(head.starts_with(&format!("http/1.1 {status}")) && body.is_empty(), "{head} {body}");
}

/// Every metric has a name of ours, a line of help and a type; counters end as counters do.
#[test]
fn metrics_have_the_form_of_prometheus() {
    let server = Server::start(&[]);
    server.chat(serde_json::json!({}));
    let (head, text) = whole(server.send("GET", "/metrics", "", ""));
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() >= 30 && text.ends_with('\n'), "{text}");
    for metric in lines.chunks(3) {
        let [help, kind, value] = metric else { panic!("{metric:?}") };
        let (name, number) = value.split_once(' ').unwrap();
        assert!(name.starts_with("leveret_") && number.parse::<f64>().is_ok(), "{value}");
        assert!(help.starts_with(&format!("# HELP {name} ")), "{help}");
        let counts = name.ends_with("_total");
        assert_eq!(*kind, format!("# TYPE {name} {}", if counts { "counter" } else { "gauge" }));
    }
}
