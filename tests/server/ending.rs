//! What becomes of requests when the server ends, or what it runs on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::prelude::Tensor;
use leveret::models::layers::{Attention, AttentionInput, Eager};
use leveret::{Backend, Error, Model, RunDtype, ServerOptions};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::running::{Server, answer, chat, events};
use crate::support::{copy_of, demo};

/// Ctrl-C, and what ends services, let what has been begun come to its end.
#[cfg(unix)]
#[rstest]
#[case("-INT")]
#[case("-TERM")]
fn an_interrupted_server_ends_what_it_has_begun(#[case] signal: &str) {
    let mut server = Server::start(&["--max-sequences", "1"]);
    let body = chat(json!({ "stream": true, "max_tokens": 40, "ignore_eos": true })).to_string();
    let mut reply = server.send("POST", "/v1/chat/completions", "", &body);
    let waiting = server.send("POST", "/v1/chat/completions", "", &chat(json!({})).to_string());
    let mut first = [0; 20];
    reply.read_exact(&mut first).unwrap();
    let process = server.process.as_mut().unwrap();
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    reply.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]") && rest.contains(r#""finish_reason":"length""#), "{rest}");
    assert_eq!(answer(waiting).0, 200);
    assert!(process.wait().unwrap().success());
    assert!(TcpStream::connect(server.address).is_err());
}

/// Connections on which nobody asks, or not to the end, are not waited for.
#[cfg(unix)]
#[test]
fn a_silent_connection_does_not_keep_a_server() {
    let mut server = Server::start(&[]);
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let _silent = ["", "GET /health HTT", &format!("{head}Content-Length: 500\r\n\r\n{{")].map(|begun| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        stream
    });
    assert_eq!(server.get("/health").0, 200);
    let process = server.process.as_mut().unwrap();
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the server goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
}

/// Nobody is told that it listens when it cannot.
#[test]
fn what_does_not_fit_fails_before_it_listens() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["serve", "--port", "0", "--ram", "1MiB"])
        .arg(demo())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.next().is_none(), "nothing is printed");
    let output = process.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("is too small"), "{stderr}");
}

/// A watcher sees that replies cannot be computed.
#[test]
fn a_checkpoint_that_was_cut_off_is_no_good_health() {
    let dir = copy_of(&demo());
    let server = Server::of(dir.path(), &["--ram", "min"]);
    assert_eq!(server.chat(json!({ "max_tokens": 2 })).0, 200);
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..1000]).unwrap();
    let (status, body) = server.chat(json!({ "max_tokens": 2 }));
    assert_eq!((status, &body["error"]["type"]), (500, &json!("server_error")), "{body}");
    let (status, body) = server.get("/health");
    assert!(status == 503 && body.contains("model.safetensors"), "{body}");
}

/// Fails after some layers, as a device may that is gone.
#[derive(Debug)]
struct Failing(AtomicUsize);

impl<B: Backend> Attention<B> for Failing {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        assert_ne!(self.0.fetch_add(1, Ordering::Relaxed), 200, "the device has gone");
        std::thread::sleep(Duration::from_millis(2));
        Eager.forward(input)
    }
}

/// Whoever waits is told, and so is whoever comes later; a watcher sees it too.
#[test]
fn a_scheduler_that_ends_leaves_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { process: None, address: listener.local_addr().unwrap() };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        let builder = Model::<Flex>::builder(demo()).dtype(RunDtype::Float32);
        let model = builder.custom_attention(Failing(AtomicUsize::new(0))).load().unwrap();
        let options = ServerOptions { max_sequences: 1, ..ServerOptions::default() };
        leveret::Server::new(model, options).unwrap().run(listener, async { drop(stopped.await) })
    });
    let ask = |stream: bool| {
        let body = chat(json!({ "max_tokens": 400, "ignore_eos": true, "stream": stream })).to_string();
        server.send("POST", "/v1/chat/completions", "", &body)
    };
    let told = |body: &Value| {
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&json!("server_error"), &json!("scheduler_ended"))
        );
    };
    let running_reply = ask(true);
    let waiting = [ask(false), ask(false)];
    let (status, body) = answer(running_reply);
    assert_eq!(status, 200, "it had begun");
    told(events(&body).last().unwrap());
    for waiting in waiting {
        let (status, body) = answer(waiting);
        assert_eq!(status, 500, "{body}");
        told(&serde_json::from_str(&body).unwrap());
    }
    let (status, body) = answer(ask(true));
    assert_eq!(status, 500, "{body}");
    told(&serde_json::from_str(&body).unwrap());
    let (status, body) = server.get("/health");
    assert!(status == 503 && body.contains("the device has gone"), "{body}");
    assert_eq!((server.metric("sequences_running"), server.metric("requests_waiting")), (0.0, 0.0));
    stop.send(()).unwrap();
    assert!(matches!(running.join().unwrap(), Err(Error::SchedulerEnded { .. })));
}
