//! What the machine can do, measured on the model's own first layer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use burn::prelude::Tensor;
use bytes::Bytes;
use leveret_models::Backend;
use leveret_models::layers::{LayerCache, Positions, Rope, Step};

use super::Engine;
use super::stage::{Loaded, Model, Stage};
use crate::error::{AtPath, Error, Result};
use crate::io::Piece;
use crate::plan::{DevicePlan, DeviceRates, Rates, Tier};
use crate::stats::PassStats;
use crate::stream::{DeviceSlot, HostRing, HostSlot, Job, Readers, read_chunk};
use crate::unit::{CHUNK, Read};
use crate::upload::InFlight;

/// How long reading is measured: long enough for small files too, which are read over and over.
const SPAN: Duration = Duration::from_millis(500);

/// Bytes of one upload at most.
const LONGEST: usize = 64 << 20;

/// How often something short is repeated.
const RUNS: usize = 7;

impl<B: Backend> Engine<B> {
    /// Measures the rates that decide how long a pass takes, in a few seconds.
    pub(crate) fn measure(&mut self) -> Result<Rates> {
        // What an earlier generation holds would not leave the budget that is measured in.
        (0..self.stages.len()).try_for_each(|i| self.entered(|engine| engine.forget(i)))?;
        let (read, cached) = self.measure_reading()?;
        let devices = (0..self.stages.len()).map(|i| self.entered(|engine| engine.measure_device(i)));
        Ok(Rates { read, cached, devices: devices.collect::<Result<_>>()? })
    }

    /// Bytes a second from files into host memory, and whether the page cache had them.
    fn measure_reading(&self) -> Result<(f64, bool)> {
        let upload = &self.stages[0].upload;
        let memory = |_| upload.host_memory(CHUNK).at("host memory").and_then(|memory| upload.page_lock(memory));
        let readers = 2 * Readers::number();
        let ring = HostRing::new((0..readers).map(memory).collect::<Result<Vec<_>>>()?);
        let (jobs, mut asked) = (self.readers.jobs(), VecDeque::new());
        let (stop, (open, _)) = (Arc::new(AtomicBool::new(false)), channel());
        let chunks = || self.all_units().flat_map(|unit| unit.chunks());
        let cached = |chunk: &Read| {
            let Read { shard, offset, slot } = chunk;
            self.parts.checkpoint.shards()[*shard].is_cached(*offset, slot.len())
        };
        let (all, there) = (chunks().count(), chunks().filter(|chunk| cached(chunk)).count());
        let (started, mut bytes) = (Instant::now(), 0);
        let mut chunks = std::iter::repeat_with(chunks).flatten().take_while(|_| started.elapsed() < SPAN);
        loop {
            let next = if asked.len() < readers { chunks.next() } else { None };
            if let Some(chunk) = next {
                let memory = ring.take().map_err(|_| Error::ReaderStopped)?;
                let piece = Piece::first(memory, chunk.slot.len());
                let (done, filled) = channel();
                let job = Job { unit: 0, read: chunk, piece, done, stop: stop.clone(), _open: open.clone() };
                jobs.send(job).map_err(|_| Error::ReaderStopped)?;
                asked.push_back(filled);
            } else if let Some(filled) = asked.pop_front() {
                bytes += read_chunk(&filled)?.read.slot.len();
            } else {
                break;
            }
        }
        Ok((bytes as f64 / started.elapsed().as_secs_f64(), 2 * there > all))
    }

    fn measure_device(&mut self, index: usize) -> Result<DeviceRates> {
        let rates = self.stages[index].measure_upload().and_then(|upload| {
            let compute = self.measure_compute(index)?;
            Ok(DeviceRates { upload, compute })
        });
        self.forget(index)?;
        rates
    }

    /// Lets go of all that a device holds.
    fn forget(&mut self, index: usize) -> Result<()> {
        self.plan = None;
        self.stages[index].clear(&[], &DevicePlan::default(), &self.experts)?;
        self.stages[index].clean_up()
    }

    /// Bytes of weights a second that the first layer computes one token with.
    fn measure_compute(&mut self, index: usize) -> Result<f64> {
        let (dims, decoder, dtype) = (self.dims(), self.parts.decoder.as_ref(), self.parts.dtype);
        let units = self.units.clone();
        let (readers, transfer) = (&self.readers, self.parts.transfer);
        let cancellation = &self.cancellation;
        let model = Model { units: &units, experts: &self.experts, decoder, readers, transfer, cancellation };
        let stage = &mut self.stages[index];
        let ring = 2 * CHUNK as u64;
        let slots = usize::from(!stage.upload.has_own_memory());
        let slot_len = units[0].host_len as u64;
        let plan = DevicePlan { units: vec![0], slots, slot_len, ring, ..DevicePlan::default() };
        stage.start(&model, &[Tier::Device], &plan)?;
        let running = stage.take(&model, 0, &mut PassStats::default())?;
        let Loaded::Layer(layer) = &running.module else { return Err(Error::ReaderStopped) };

        let device = &stage.device;
        let x = Tensor::<B, 3>::ones([1, 1, dims.embedding_size], (device, dtype));
        let inputs = decoder.layer_embedding().map(|it| Tensor::<B, 3>::ones([1, 1, it.width], (device, dtype)));
        let mut cache = LayerCache::new(decoder.state(0), decoder.sliding_window(0), RUNS + 1);
        let mut seconds = Vec::new();
        for run in 0..=RUNS {
            let keys = Positions::new(1, (0..=run as i32).collect());
            let queries = keys.narrow(run..run + 1);
            let rope = Rope::new(&decoder.rope(0), dims.head_dim, &queries, run + 1, device);
            stage.synchronise()?;
            let started = Instant::now();
            let attention = self.parts.attention.as_ref();
            let layer_inputs = &mut inputs.clone();
            let (rope, cache, queries, keys) = (&rope, &mut cache, &queries, &keys);
            let mut step = Step { rope, cache, queries, keys, attention, layer_inputs, routed: None };
            let y = layer.forward(x.clone(), &mut step);
            stage.synchronise()?;
            seconds.push(started.elapsed().as_secs_f64());
            drop(y);
        }
        // The first run compiles kernels.
        seconds.remove(0);
        seconds.sort_by(f64::total_cmp);
        Ok(units[0].bytes() as f64 / seconds[RUNS / 2])
    }
}

impl<B: Backend> Stage<B> {
    /// Bytes a second from page-locked host memory to the device, if it has memory of its own.
    fn measure_upload(&self) -> Result<Option<f64>> {
        if !self.upload.has_own_memory() {
            return Ok(None);
        }
        let budget = self.budget.bytes.unwrap_or(u64::MAX) / 2;
        let len = LONGEST.min(budget as usize);
        let mut memory = self.upload.host_memory(len).at("host memory")?;
        memory.fill(1);
        let from = Bytes::from_owner(HostSlot::alone(self.upload.page_lock(memory)?));
        let to = Arc::new(DeviceSlot::alone(self.upload.device_memory(len)?));
        let mut seconds = Vec::new();
        for _ in 0..RUNS {
            let started = Instant::now();
            // Several at once, so that the link is never without work.
            let copies = (0..4).map(|_| self.upload.copy(from.clone(), &to, &[(0..len, 0)]));
            copies.collect::<Result<Vec<_>>>()?.into_iter().try_for_each(InFlight::wait)?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Some((4 * len) as f64 / seconds[RUNS / 2]))
    }
}
