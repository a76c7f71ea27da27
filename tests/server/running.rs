//! A server to ask, and what it answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::demo;

/// A running `leveret serve`.
pub struct Server {
    /// Where it is one of its own.
    pub process: Option<Child>,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(flags: &[&str]) -> Self {
        Self::of(&demo(), flags)
    }

    /// A server of a checkpoint.
    pub fn of(model: &Path, flags: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args(["serve", "--port", "0", "--dtype", "float32"])
            .args(flags)
            .arg(model)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self { process: Some(process), address }
    }

    /// Sends a request; the answer's status and body come later.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        let usual = [("Host", self.address.to_string()), ("Content-Type", "application/json".to_owned())];
        for (name, value) in usual.iter().filter(|(name, _)| !headers.contains(name)) {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).unwrap();
        stream
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        answer(self.send(method, path, headers, body))
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.ask("POST", path, "", &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    pub fn chat(&self, more: Value) -> (u16, Value) {
        self.post("/v1/chat/completions", &chat(more))
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("leveret_{name} ")));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Status and body of an answer, chunks put together.
pub fn answer(stream: TcpStream) -> (u16, String) {
    let (head, body) = whole(stream);
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// Head, in small letters, and body of an answer.
pub fn whole(mut stream: TcpStream) -> (String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    if !head.contains("transfer-encoding: chunked") {
        return (head, rest.to_owned());
    }
    let mut body = String::new();
    while let Some((len, after)) = rest.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        body.push_str(&after[..len]);
        rest = after.get(len + 2..).unwrap_or_default();
    }
    (head, body)
}

/// A request for a reply of a few tokens, and more fields.
pub fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Phileas Fogg" }], "temperature": 0, "max_tokens": 6,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The data of server-sent events, without the last, which is `[DONE]`.
pub fn events(body: &str) -> Vec<Value> {
    let mut data: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{body}");
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}
