use serde_json::Value;

use super::running::{Server, answer, chat, whole};

/// The status and code of an answer.
fn refusal(server: &Server, method: &str, path: &str, headers: &str) -> (u16, String) {
    let (status, body) = server.ask(method, path, headers, &chat(serde_json::json!({})).to_string());
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    assert!(status == 200 || body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// A page of another site reaches a server on loopback by a name of its own, or by requests that need no leave.
#[test]
fn pages_of_other_sites_are_refused() {
    let server = Server::start(&[]);
    let port = server.address.port();
    let ask = |headers: &str| refusal(&server, "POST", "/v1/chat/completions", headers);
    let host = |host: &str| ask(&format!("Host: {host}\r\n"));
    assert_eq!(host(&format!("localhost:{port}")).0, 200);
    assert_eq!(host("evil.example"), (403, "host_not_allowed".to_owned()));
    assert_eq!(refusal(&server, "GET", "/health", "Host: evil.example\r\n").0, 403);
    assert_eq!(ask(&format!("Origin: http://127.0.0.1:{port}\r\n")).0, 200);
    assert_eq!(ask("Origin: https://evil.example\r\n"), (403, "origin_not_allowed".to_owned()));
    assert_eq!(ask("Origin: null\r\n").0, 403);
    let (_, body) = server.ask("POST", "/v1/chat/completions", "Origin: https://evil.example\r\n", "{}");
    assert!(body.contains("--allow-origin https://evil.example"), "{body}");
    assert_eq!(ask("Content-Type: text/plain\r\n").0, 415);
    assert_eq!(ask("Content-Type: application/x-www-form-urlencoded\r\n").0, 415);
    assert_eq!(ask("Content-Type: application/json; charset=utf-8\r\n").0, 200);
}

/// Browsers ask before, and are told; the answer itself may be read too, also where it is a refusal.
#[test]
fn pages_of_allowed_origins_may_ask() {
    let server = Server::start(&["--allow-origin", "https://chat.example/", "--api-key", "secret"]);
    let headers = "Origin: https://chat.example\r\nAccess-Control-Request-Method: POST\r\n\
                   Access-Control-Request-Headers: authorization, content-type, x-other\r\n";
    let (head, _) = whole(server.send("OPTIONS", "/v1/chat/completions", headers, ""));
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("access-control-allow-origin: https://chat.example"), "{head}");
    assert!(head.contains("access-control-allow-headers: authorization, content-type, x-other"), "{head}");
    let key = "Origin: https://chat.example\r\nAuthorization: Bearer secret\r\n";
    for (headers, status) in [(key, "200"), ("Origin: https://chat.example\r\n", "401")] {
        let (head, _) = whole(server.send("GET", "/v1/models", headers, ""));
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(head.contains("access-control-allow-origin: https://chat.example"), "{head}");
    }
    assert_eq!(server.ask("GET", "/health", "Host: chat.example\r\n", "").0, 200);
    assert_eq!(server.ask("OPTIONS", "/v1/models", "Origin: https://evil.example\r\n", "").0, 403);
}

#[test]
fn no_origin_needs_no_leave_and_gets_none() {
    let server = Server::start(&["--host", "0.0.0.0"]);
    let (head, _) = whole(server.send("GET", "/v1/models", "Host: any.example\r\n", ""));
    assert!(head.starts_with("http/1.1 200") && !head.contains("access-control"), "{head}");
    assert_eq!(answer(server.send("GET", "/v1/models", "Origin: https://evil.example\r\n", "")).0, 403);
}
