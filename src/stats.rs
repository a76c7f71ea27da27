//! The numbers of a run.

use std::time::Duration;

use serde::Serialize;

use crate::stream::Arrived;

/// What one pass did.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct PassStats {
    /// Positions computed, of all sequences.
    pub tokens: usize,
    /// Wall time.
    pub seconds: f64,
    /// Time in which the computation stood still for weights.
    pub wait_seconds: f64,
    /// Time in which weights were being read, most of it while something was computed.
    pub read_seconds: f64,
    /// Bytes of weights read from files.
    pub read_bytes: u64,
    /// Time in which weights were being copied to the device's own memory, most of it while something was computed.
    pub upload_seconds: f64,
    /// Bytes of weights copied there.
    pub upload_bytes: u64,
}

impl PassStats {
    /// Counts a unit that was waited for.
    pub(crate) fn arrived(&mut self, wait: Duration, arrived: &Arrived) {
        let (bytes, seconds) = arrived.read;
        self.read_bytes += bytes;
        self.read_seconds += seconds.as_secs_f64();
        self.upload_bytes += arrived.uploaded;
        self.upload_seconds += arrived.upload.as_secs_f64();
        self.wait_seconds += wait.as_secs_f64();
    }
}

/// What a generation did.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Time to first token: from the prompt to the first sampled token, in seconds.
    pub ttft: f64,
    /// The pass over the prompts.
    pub prefill: PassStats,
    /// The passes of one token each, in order.
    pub decode: Vec<PassStats>,
    /// Units that stay in memory, of all.
    pub resident_units: usize,
    /// Units that a pass goes through.
    pub units: usize,
    /// Bytes that the plan takes, KV cache and activations included.
    pub planned_bytes: u64,
}

impl Stats {
    /// Median seconds of a decode pass.
    pub fn seconds_per_token(&self) -> Option<f64> {
        let mut seconds: Vec<f64> = self.decode.iter().map(|pass| pass.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied()
    }
}
