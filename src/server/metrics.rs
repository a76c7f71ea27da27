use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::PassStats;

/// Numbers of a server since its start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) running: AtomicU64,
    positions: AtomicU64,
    tokens: AtomicU64,
    passes: AtomicU64,
    pass_microseconds: AtomicU64,
    read_bytes: AtomicU64,
    upload_bytes: AtomicU64,
}

impl Metrics {
    /// Counts a pass and the tokens that came of it.
    pub(super) fn note(&self, pass: &PassStats, tokens: usize) {
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.passes, 1);
        add(&self.positions, pass.tokens as u64);
        add(&self.tokens, tokens as u64);
        add(&self.pass_microseconds, (pass.seconds * 1e6) as u64);
        add(&self.read_bytes, pass.read_bytes);
        add(&self.upload_bytes, pass.upload_bytes);
    }

    /// Nothing runs or waits any more.
    pub(super) fn clear(&self) {
        [&self.running, &self.waiting].into_iter().for_each(|gauge| gauge.store(0, Ordering::Relaxed));
    }

    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> String {
        let counters = [
            ("requests_total", "Requests for replies.", &self.requests),
            ("request_failures_total", "Requests that ended with an error.", &self.failures),
            ("positions_total", "Positions computed, prompts included.", &self.positions),
            ("tokens_total", "Tokens generated.", &self.tokens),
            ("passes_total", "Passes through the model.", &self.passes),
            ("read_bytes_total", "Bytes of weights read from files.", &self.read_bytes),
            ("upload_bytes_total", "Bytes of weights copied to devices.", &self.upload_bytes),
        ];
        let gauges = [
            ("requests_waiting", "Requests of which some or all prompts wait for room.", &self.waiting),
            ("sequences_running", "Sequences that a pass serves.", &self.running),
        ];
        let mut text = String::new();
        let mut put = |name: &str, help: &str, kind: &str, value: String| {
            let _ =
                write!(text, "# HELP leveret_{name} {help}\n# TYPE leveret_{name} {kind}\nleveret_{name} {value}\n");
        };
        for (name, help, value) in counters {
            put(name, help, "counter", value.load(Ordering::Relaxed).to_string());
        }
        let seconds = self.pass_microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        put("pass_seconds_total", "Time spent in passes.", "counter", seconds.to_string());
        for (name, help, value) in gauges {
            put(name, help, "gauge", value.load(Ordering::Relaxed).to_string());
        }
        text
    }
}
