//! The numbers of a run.

use std::ops::AddAssign;
use std::time::Instant;

use serde::Serialize;

use crate::stream::Arrived;

/// What one pass did; the categories that are not marked as going on meanwhile add up to its seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct PassStats {
    /// Positions computed, of all sequences.
    pub tokens: usize,
    /// Wall time, sampling included.
    pub seconds: f64,
    /// Time for making memory and starting to read, in the first pass of a plan.
    pub prepare_seconds: f64,
    /// Time in which the computation stood still for weights that were being read.
    pub wait_read_seconds: f64,
    /// Time in which it stood still for weights that were being uploaded.
    pub wait_upload_seconds: f64,
    /// Time for making tensors of a unit's bytes; where a backend does not have their dtype, they are converted.
    pub convert_seconds: f64,
    /// Time for computing. A device that works on its own is only waited for at the end of a pass, and in a profile.
    pub compute_seconds: f64,
    /// Time for choosing tokens.
    pub sample_seconds: f64,
    /// Time in which weights were being read, most of it while something was computed.
    pub read_seconds: f64,
    /// Bytes of weights read from files.
    pub read_bytes: u64,
    /// Time in which weights were being copied to the device's own memory, most of it while something was computed.
    pub upload_seconds: f64,
    /// Bytes of weights copied there.
    pub upload_bytes: u64,
    /// Experts that were computed with, each counted once a layer and pass.
    pub experts: usize,
    /// Those of them that were where they are computed with.
    pub experts_resident: usize,
    /// Those of them that had to be read from files.
    pub experts_read: usize,
}

impl PassStats {
    /// Counts a unit that was waited for from `start` to `end`.
    pub(crate) fn arrived(&mut self, (start, end): (Instant, Instant), arrived: &Arrived) {
        self.read_bytes += arrived.read.bytes;
        self.read_seconds += arrived.read.busy.as_secs_f64();
        self.upload_bytes += arrived.upload.bytes;
        self.upload_seconds += arrived.upload.busy.as_secs_f64();
        // Until its last byte had been read, it was waited for that; then for the upload, if there was one.
        let read = match arrived.upload.bytes {
            0 => end,
            _ => arrived.read.end.map_or(start, |read| read.clamp(start, end)),
        };
        self.wait_read_seconds += (read - start).as_secs_f64();
        self.wait_upload_seconds += (end - read).as_secs_f64();
    }

    /// Time in which the computation stood still for weights.
    pub fn wait_seconds(&self) -> f64 {
        self.wait_read_seconds + self.wait_upload_seconds
    }

    /// The sum of all categories that exclude each other.
    pub fn accounted_seconds(&self) -> f64 {
        let waiting = self.prepare_seconds + self.wait_seconds();
        waiting + self.convert_seconds + self.compute_seconds + self.sample_seconds
    }
}

impl AddAssign for PassStats {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.seconds += other.seconds;
        self.prepare_seconds += other.prepare_seconds;
        self.wait_read_seconds += other.wait_read_seconds;
        self.wait_upload_seconds += other.wait_upload_seconds;
        self.convert_seconds += other.convert_seconds;
        self.compute_seconds += other.compute_seconds;
        self.sample_seconds += other.sample_seconds;
        self.read_seconds += other.read_seconds;
        self.read_bytes += other.read_bytes;
        self.upload_seconds += other.upload_seconds;
        self.upload_bytes += other.upload_bytes;
        self.experts += other.experts;
        self.experts_resident += other.experts_resident;
        self.experts_read += other.experts_read;
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
    /// Decoder layers among them.
    pub layers: usize,
    /// Bytes that the plan takes of the memory it computes in, KV cache and activations included.
    pub planned_bytes: u64,
    /// The most that devices with memory of their own have taken of it so far, in bytes, where they tell.
    pub peak_device_bytes: Option<u64>,
}

impl Stats {
    /// Median seconds of a decode pass.
    pub fn seconds_per_token(&self) -> Option<f64> {
        let mut seconds: Vec<f64> = self.decode.iter().map(|pass| pass.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied()
    }
}
