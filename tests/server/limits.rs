use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::running::{Server, answer, chat};

/// Eight clients at once get what each would alone, for the bytes of about one.
#[test]
fn one_pass_serves_all() {
    let server = Server::start(&["--max-sequences", "8", "--ram", "min", "--context", "64"]);
    let prompts = ["Phileas", "Fogg", "The", "mansion", "London", "A", "servant", "Passepartout"];
    let ask = |prompt: &str| {
        let body = json!({ "prompt": prompt, "max_tokens": 20, "temperature": 0, "ignore_eos": true });
        let (status, body) = server.post("/v1/completions", &body);
        assert_eq!(status, 200, "{body}");
        body["choices"][0]["text"].clone()
    };
    let alone: Vec<_> = prompts.iter().map(|prompt| ask(prompt)).collect();
    let passes = server.metric("passes_total");
    let bytes = server.metric("read_bytes_total");
    assert_eq!(passes, 8.0 * 20.0);
    let together: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = prompts.iter().map(|prompt| scope.spawn(|| ask(prompt))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    let passes_together = server.metric("passes_total") - passes;
    assert!(passes_together <= 2.0 * 20.0, "{passes_together}");
    let share = (server.metric("read_bytes_total") - bytes) / bytes;
    assert!(share < 0.3, "eight at once read {share} of what they read one after another");
}

/// Begins a long reply.
fn long(server: &Server) -> TcpStream {
    let body = chat(json!({ "max_tokens": 400, "ignore_eos": true })).to_string();
    server.send("POST", "/v1/chat/completions", "", &body)
}

/// Waits until a metric has a value.
fn until(server: &Server, metric: &str, value: f64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.metric(metric) != value {
        assert!(Instant::now() < deadline, "{metric} is not {value}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn limits_hold() {
    let flags = ["--max-sequences", "1", "--queue", "1", "--body-limit", "2000", "--ram", "min"];
    let server = Server::start(&flags);
    let (status, body) = server.chat(json!({ "messages": [{ "role": "user", "content": "a".repeat(3000) }] }));
    assert!(status == 413 && body.to_string().contains("--body-limit"), "{status} {body}");
    let running = long(&server);
    until(&server, "sequences_running", 1.0);
    let waiting = long(&server);
    until(&server, "requests_waiting", 1.0);
    let (status, body) = answer(long(&server));
    assert!(status == 429 && body.contains("rate_limit_error"), "{status} {body}");
    // Clients that go away make room within a pass.
    drop((waiting, running));
    until(&server, "sequences_running", 0.0);
    until(&server, "requests_waiting", 0.0);
    assert!(server.metric("tokens_total") < 400.0);
    assert_eq!(server.chat(json!({ "max_tokens": 2 })).0, 200);

    let server = Server::start(&["--timeout", "0"]);
    let (status, body) = server.chat(json!({}));
    assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")));
}

/// What a request may take counts from its head: a body that does not come is waited for no longer.
#[test]
fn a_body_that_does_not_come_is_refused() {
    let server = Server::start(&["--timeout", "1"]);
    let mut silent = TcpStream::connect(server.address).unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    silent.write_all(format!("{head}Connection: close\r\nContent-Length: 500\r\n\r\n{{").as_bytes()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (status, body) = answer(silent);
    assert!(status == 408 && body.contains("--timeout"), "{status} {body}");
}

/// A place in the queue is a request's, whatever it asks for, until all of it has room.
#[test]
fn the_queue_counts_requests() {
    let server = Server::start(&["--max-sequences", "2", "--queue", "1", "--context", "450", "--ram", "min"]);
    let body = chat(json!({ "max_tokens": 400, "ignore_eos": true, "n": 2 })).to_string();
    let running = server.send("POST", "/v1/chat/completions", "", &body);
    until(&server, "sequences_running", 2.0);
    let body = json!({ "prompt": ["Phileas", "Fogg", "London"], "n": 2, "max_tokens": 3, "ignore_eos": true });
    let several = server.send("POST", "/v1/completions", "", &body.to_string());
    until(&server, "requests_waiting", 1.0);
    assert_eq!(answer(long(&server)).0, 429);
    // Nothing is done for it before: of a prompt that is too long nobody knows yet.
    let too_long = json!({ "prompt": "Phileas ".repeat(500) });
    assert_eq!(server.post("/v1/completions", &too_long).0, 429);
    drop(running);
    let (status, body) = answer(several);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, body["choices"].as_array().unwrap().len()), (200, 6), "{body}");
    until(&server, "requests_waiting", 0.0);
    let whole = body["choices"].as_array().unwrap().iter().all(|choice| choice["finish_reason"] == "length");
    assert!(whole && body["usage"]["completion_tokens"] == 18, "{body}");
}

/// A reader of a stream that goes away makes room within a pass.
#[test]
fn a_stream_that_nobody_reads_ends() {
    let server = Server::start(&["--ram", "min"]);
    let body = chat(json!({ "max_tokens": 400, "ignore_eos": true, "stream": true })).to_string();
    let mut stream = server.send("POST", "/v1/chat/completions", "", &body);
    stream.read_exact(&mut [0; 20]).unwrap();
    drop(stream);
    until(&server, "sequences_running", 0.0);
    assert!(server.metric("tokens_total") < 400.0);
}
