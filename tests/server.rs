//! The server speaks OpenAI's language, serves several at once, and says no in the right words.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::demo;

/// A running `leveret serve`.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args(["serve", "--port", "0", "--dtype", "float32"])
            .args(flags)
            .arg(demo())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self { process, address }
    }

    /// Sends a request; the answer's status and body come later.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let len = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: leveret\r\nConnection: close\r\nContent-Length: {len}\r\n");
        stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        answer(self.send(method, path, headers, body))
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.ask("POST", path, "Content-Type: application/json\r\n", &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn chat(&self, more: Value) -> (u16, Value) {
        self.post("/v1/chat/completions", &chat(more))
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("leveret_{name} ")));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status and body of an answer, chunks put together.
fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return (status, rest.to_owned());
    }
    let mut body = String::new();
    while let Some((len, after)) = rest.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        body.push_str(&after[..len]);
        rest = after.get(len + 2..).unwrap_or_default();
    }
    (status, body)
}

/// A request for a reply of a few tokens, and more fields.
fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Phileas Fogg" }], "temperature": 0, "max_tokens": 6,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The data of server-sent events, without the last, which is `[DONE]`.
fn events(body: &str) -> Vec<Value> {
    let mut data: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{body}");
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn a_chat_completion_has_the_form_of_openai() {
    let server = Server::start(&[]);
    let (status, whole) = server.chat(json!({ "model": "demo", "logprobs": true, "top_logprobs": 2 }));
    assert_eq!(status, 200, "{whole}");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("demo")));
    let choice = &whole["choices"][0];
    assert_eq!((&choice["message"]["role"], &choice["index"]), (&json!("assistant"), &json!(0)));
    assert_eq!(whole["usage"]["completion_tokens"], choice["logprobs"]["content"].as_array().unwrap().len());
    let first = &choice["logprobs"]["content"][0];
    assert_eq!(first["top_logprobs"][0]["token"], first["token"], "the likeliest is taken");
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert!(first["logprob"].as_f64().unwrap() <= 0.0);
    let (prompt, all) = (whole["usage"]["prompt_tokens"].as_u64(), whole["usage"]["total_tokens"].as_u64());
    assert_eq!(all.unwrap(), prompt.unwrap() + whole["usage"]["completion_tokens"].as_u64().unwrap());

    let body = chat(json!({ "stream": true, "stream_options": { "include_usage": true } })).to_string();
    let (status, body) = server.ask("POST", "/v1/chat/completions", "", &body);
    assert_eq!(status, 200);
    let events = events(&body);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    let [.., last, usage] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"]);
    assert_eq!((&usage["usage"], &usage["choices"]), (&whole["usage"], &json!([])));
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]));
}

#[test]
fn completions_take_texts_and_tokens() {
    let server = Server::start(&[]);
    let complete = |more: Value| {
        let mut body = json!({ "prompt": "The mansion in Saville Row", "temperature": 0, "max_tokens": 8 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    let (status, one) = complete(json!({ "logprobs": 1 }));
    assert_eq!((status, &one["object"]), (200, &json!("text_completion")));
    let text = one["choices"][0]["text"].as_str().unwrap();
    assert!(text.starts_with(", though not sumptuous"), "{text}");
    assert_eq!(one["choices"][0]["finish_reason"], "length");
    assert_eq!(one["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 8);
    let prompts = json!(["Phileas Fogg", "The mansion in Saville Row"]);
    let (_, several) = complete(json!({ "prompt": prompts, "n": 2 }));
    let texts: Vec<_> = several["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!((texts.len(), texts[2], texts[3]), (4, &one["choices"][0]["text"], &one["choices"][0]["text"]));
    let (_, stopped) = complete(json!({ "stop": "not" }));
    assert_eq!(
        (&stopped["choices"][0]["text"], &stopped["choices"][0]["finish_reason"]),
        (&json!(", though "), &json!("stop"))
    );
    let (_, tokens) = complete(json!({ "prompt": [5, 6, 7], "max_completion_tokens": 2 }));
    assert_eq!(tokens["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 }));
    let sampled = |seed: u64| complete(json!({ "temperature": 1.5, "seed": seed })).1["choices"][0]["text"].clone();
    assert_eq!(sampled(1), sampled(1));
    assert_ne!(sampled(1), sampled(2));
}

#[test]
fn what_is_wrong_is_said() {
    let server = Server::start(&[]);
    let cases = [
        (json!({ "model": "other" }), 404, "model", "model_not_found"),
        (json!({ "max_tokens": 100_000 }), 400, "", "context_length_exceeded"),
        (json!({ "temperature": -1 }), 400, "temperature", ""),
        (json!({ "messages": [] }), 400, "messages", ""),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }), 400, "messages", ""),
        (json!({ "messages": "text" }), 400, "", ""),
        (json!({ "n": 0 }), 400, "n", ""),
        (json!({ "n": 100 }), 400, "n", ""),
        (json!({ "logit_bias": { "5": 1 } }), 400, "logit_bias", ""),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "nonsense" } } } }),
            400,
            "response_format",
            "",
        ),
    ];
    for (more, status, param, code) in cases {
        let (found, body) = server.chat(more);
        assert_eq!(found, status, "{body}");
        let error = &body["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert_eq!(error["type"], "invalid_request_error");
        let expected = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        assert_eq!((&error["param"], &error["code"]), (&expected(param), &expected(code)), "{body}");
    }
}

#[test]
fn other_paths_are_answered_too() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/health"), (200, r#"{"status":"ok"}"#.to_owned()));
    let models: Value = serde_json::from_str(&server.get("/v1/models").1).unwrap();
    assert_eq!(models["data"][0]["id"], "demo");
    assert_eq!(server.get("/v1/models/demo").0, 200);
    assert_eq!(server.get("/v1/models/some/other").0, 404);
    for (status, body) in [server.get("/nowhere"), server.get("/v1/chat/completions")] {
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(matches!(status, 404 | 405) && body["error"]["message"].is_string(), "{status} {body}");
    }
    let (status, body) = server.ask("POST", "/v1/chat/completions", "", "{");
    assert!(status == 400 && body.contains("the body is not as expected"), "{body}");
    let (status, page) = server.get("/");
    assert!(status == 200 && page.contains("<title>Leveret</title>"), "{page}");
    assert!(!page.contains("src=") && !page.contains("http"), "the page needs nothing from elsewhere");
}

/// The JSON is of the schema whatever the model would rather say; keys cost no pass.
#[test]
fn a_schema_is_kept() {
    let server = Server::start(&[]);
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["a_rather_long_name_of_a_field", "yes"],
        "properties": { "a_rather_long_name_of_a_field": { "enum": ["red", "green"] }, "yes": { "type": "boolean" } },
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "it", "strict": true, "schema": schema } });
    let more = json!({ "response_format": format, "max_tokens": 200, "temperature": 1.0, "seed": 5 });
    let (status, body) = server.chat(more);
    assert_eq!((status, &body["choices"][0]["finish_reason"]), (200, &json!("stop")), "{body}");
    let reply: Value = serde_json::from_str(body["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(
        reply["yes"].is_boolean() && matches!(reply["a_rather_long_name_of_a_field"].as_str(), Some("red" | "green"))
    );
    let object = json!({ "type": "json_object" });
    let (status, body) = server.chat(json!({ "response_format": object, "max_tokens": 4 }));
    assert_eq!(status, 200);
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'), "{body}");
}

#[test]
fn forced_tokens_cost_no_pass() {
    let server = Server::start(&[]);
    let schema = json!({ "const": { "a_rather_long_name_of_a_field": "and a value that can only be this one" } });
    let format = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let (_, body) = server.chat(json!({ "response_format": format, "max_tokens": 200 }));
    let tokens = body["usage"]["completion_tokens"].as_f64().unwrap();
    assert!(server.metric("passes_total") < tokens / 2.0, "{tokens} {}", server.metric("passes_total"));
}

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

#[test]
fn limits_hold() {
    let flags = ["--max-sequences", "1", "--queue", "1", "--body-limit", "2000", "--ram", "min"];
    let server = Server::start(&flags);
    let (status, body) = server.chat(json!({ "messages": [{ "role": "user", "content": "a".repeat(3000) }] }));
    assert_eq!(status, 413, "{body}");
    let long = |server: &Server| {
        let body = chat(json!({ "max_tokens": 400, "ignore_eos": true })).to_string();
        server.send("POST", "/v1/chat/completions", "", &body)
    };
    let until = |metric: &str, value: f64| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.metric(metric) != value {
            assert!(Instant::now() < deadline, "{metric} is not {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let running = long(&server);
    until("sequences_running", 1.0);
    let waiting = long(&server);
    until("requests_waiting", 1.0);
    let (status, body) = answer(long(&server));
    assert!(status == 429 && body.contains("rate_limit_error"), "{status} {body}");
    // Clients that go away make room within a pass.
    drop((waiting, running));
    until("sequences_running", 0.0);
    until("requests_waiting", 0.0);
    assert!(server.metric("tokens_total") < 400.0);
    assert_eq!(server.chat(json!({ "max_tokens": 2 })).0, 200);

    let server = Server::start(&["--timeout", "0"]);
    let (status, body) = server.chat(json!({}));
    assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")));
}

/// Ctrl-C lets what has been begun come to its end.
#[cfg(unix)]
#[test]
fn an_interrupted_server_ends_what_it_has_begun() {
    let mut server = Server::start(&[]);
    let body = chat(json!({ "stream": true, "max_tokens": 40, "ignore_eos": true })).to_string();
    let mut reply = server.send("POST", "/v1/chat/completions", "", &body);
    let mut first = [0; 20];
    reply.read_exact(&mut first).unwrap();
    let interrupted = Command::new("kill").args(["-INT", &server.process.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut rest = String::new();
    reply.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    assert!(server.process.wait().unwrap().success());
    assert!(TcpStream::connect(server.address).is_err());
}
