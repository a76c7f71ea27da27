//! One trip through all units: for each take its weights, run it, give them back.

use std::ops::Range;
use std::time::Instant;

use burn::prelude::Tensor;
use burn::tensor::DType;
use leveret_models::Backend;
use leveret_models::layers::{Mixture, Positions, Rope, RopeParameters, Routed, Step};

use super::marks::Marks;
use super::stage::{Loaded, Model, Running};
use super::{Engine, Logits, Rows};
use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::plan::Tier;
use crate::stats::PassStats;
use crate::unit::{Unit, UnitKind};

/// Some columns of a pass, small enough for a layer to compute at once.
struct Chunk {
    columns: Range<usize>,
    queries: Positions,
    /// Positions of all columns of the KV cache up to these.
    keys: Positions,
}

/// Cuts the columns of a pass; `all` are those of the KV cache, the pass's included.
fn chunks(queries: &Positions, all: &Positions, len: usize) -> Vec<Chunk> {
    let (new, past) = (queries.columns(), all.columns() - queries.columns());
    let chunk = |start: usize| {
        let columns = start..(start + len).min(new);
        Chunk { queries: queries.narrow(columns.clone()), keys: all.narrow(0..past + columns.end), columns }
    };
    (0..new).step_by(len).map(chunk).collect()
}

/// What a pass carries from unit to unit.
pub(super) struct Pass<B: Backend> {
    chunks: Vec<Chunk>,
    rows: Rows,
    /// Chunk by chunk, `[batch, columns, hidden_size]`; from the head on normed, and of what was asked for alone.
    pub(super) hidden: Vec<Tensor<B, 3>>,
    /// Chunk by chunk, what layers read beside them, `[batch, columns, width]`.
    layer_inputs: Vec<Option<Tensor<B, 3>>>,
    /// Device by device, rotations of each chunk, each time those of every kind.
    rope: Vec<Vec<Vec<Rope<B>>>>,
    /// Layer by layer, which kind.
    rope_of: Vec<usize>,
    logits: Logits,
    pub(super) marks: Marks<B>,
}

impl<B: Backend> Engine<B> {
    /// Runs `tokens` at `positions` through all units.
    pub(super) fn pass(
        &mut self,
        tokens: &[Vec<u32>],
        positions: &Positions,
        cache: &mut Cache<B>,
        rows: Rows,
        stats: &mut PassStats,
    ) -> Result<Logits> {
        let plan = self.plan.clone().expect("a pass follows `begin`");
        let units = self.units.clone();
        let (decoder, transfer, readers) = (self.parts.decoder.as_ref(), self.parts.transfer, &self.readers);
        let model = Model { units: &units, experts: &self.experts, decoder, readers, transfer };
        let begun = Instant::now();
        for (stage, device) in self.stages.iter_mut().zip(&plan.devices) {
            stage.start(&model, &plan.tiers, device)?;
        }
        stats.prepare_seconds += begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let dims = decoder.dims();
        let chunks = chunks(positions, cache.columns(), plan.chunk.max(1));
        let mut at = plan.device_of(0);
        let device = &self.stages[at].device;
        let ids = padded(tokens, positions.columns());
        let embed = |chunk: &Chunk| self.embedding.gather::<B>(&ids, &chunk.columns, (device, self.parts.dtype));
        let hidden = chunks.iter().map(embed).collect::<Result<Vec<_>>>()?;
        let inputs = |chunk: &Chunk| {
            let embedding = self.layer_embedding.as_mut();
            embedding.map(|it| it.gather::<B>(&ids, &chunk.columns, (device, self.parts.dtype))).transpose()
        };
        let layer_inputs = chunks.iter().map(inputs).collect::<Result<Vec<_>>>()?;
        let longest = positions.longest();
        let (kinds, rope_of) = ropes(decoder, dims.num_layers);
        let rope = |device: &B::Device| {
            let table = |rope: &RopeParameters, chunk: &Chunk| match rope.follows_prompts() {
                true => Rope::by_row(rope, dims.head_dim, &chunk.queries, cache.prompts(), device),
                false => Rope::new(rope, dims.head_dim, &chunk.queries, longest, device),
            };
            let of_chunk = |chunk: &Chunk| kinds.iter().map(|rope| table(rope, chunk)).collect();
            chunks.iter().map(of_chunk).collect()
        };
        let count = match rows {
            Rows::Last => positions.batch(),
            Rows::All => positions.batch() * positions.columns(),
        };
        let mut pass = Pass {
            rope: self.stages.iter().map(|stage| rope(&stage.device)).collect(),
            rope_of,
            chunks,
            rows,
            marks: Marks::new(),
            hidden,
            layer_inputs,
            logits: Logits::new(count, dims.vocab_size),
        };
        pass.marks.put(&pass.hidden);
        stats.compute_seconds += begun.elapsed().as_secs_f64();

        for (index, unit) in units.iter().enumerate() {
            let stage = plan.device_of(index);
            if stage != at {
                let begun = Instant::now();
                at = stage;
                pass.move_to(&self.stages[at].device);
                stats.compute_seconds += begun.elapsed().as_secs_f64();
            }
            let arrived = match self.stages[at].resident(index) {
                Some(_) => None,
                None => Some(self.stages[at].take(&model, index, stats)?),
            };
            let begun = Instant::now();
            let span = tracing::trace_span!("compute", unit = index, stage = at).entered();
            let running = arrived.as_ref().or_else(|| self.stages[at].resident(index)).ok_or(Error::ReaderStopped)?;
            let routed =
                pass.run(unit, running, at, (cache, decoder.kv_layer(index)), self.parts.attention.as_ref())?;
            let beside = stats.wait_seconds() + stats.convert_seconds;
            let mixtures = self.stages[at].mix(index, routed, &model, stats)?;
            let beside = stats.wait_seconds() + stats.convert_seconds - beside;
            let running = arrived.as_ref().or_else(|| self.stages[at].resident(index)).ok_or(Error::ReaderStopped)?;
            pass.finish(running, mixtures);
            if self.parts.profile {
                self.stages[at].synchronise()?;
            }
            drop(span);
            if let Some(running) = arrived.filter(|_| plan.tiers[index] == Tier::Device) {
                self.stages[at].keep(index, running);
            }
            stats.compute_seconds += begun.elapsed().as_secs_f64() - beside;
        }
        match pass.logits.are_finite() {
            true => Ok(pass.logits),
            false => Err(Error::NonFinite { place: pass.marks.first_not_finite(&units) }),
        }
    }
}

impl<B: Backend> Pass<B> {
    /// Brings the hidden states to another device, by way of the host.
    fn move_to(&mut self, device: &B::Device) {
        for x in self.hidden.iter_mut().chain(self.layer_inputs.iter_mut().flatten()) {
            let dtype = x.dtype();
            *x = Tensor::from_data(x.to_data(), (device, dtype));
        }
    }

    /// Runs a unit over all chunks, on the device of stage `at`; gives what it leaves to experts, chunk by chunk.
    fn run(
        &mut self,
        unit: &Unit,
        running: &Running<B>,
        at: usize,
        (cache, kv_layer): (&mut Cache<B>, usize),
        attention: &dyn leveret_models::layers::Attention<B>,
    ) -> Result<Vec<Option<Routed<B>>>> {
        match (&running.module, &unit.kind) {
            (Loaded::Layer(layer), UnitKind::Layer(index)) => {
                let beside = self.chunks.iter().zip(&self.rope[at]).zip(&mut self.layer_inputs);
                let parts = self.hidden.drain(..).zip(beside);
                let forward = |(x, ((chunk, ropes), layer_inputs)): (_, ((&Chunk, &Vec<_>), _))| {
                    let (queries, keys) = (&chunk.queries, &chunk.keys);
                    let (cache, rope) = (&mut cache.layers[kv_layer], &ropes[self.rope_of[*index]]);
                    let mut step = Step { rope, cache, queries, keys, attention, layer_inputs, routed: None };
                    (layer.forward(x, &mut step), step.routed)
                };
                let (hidden, routed) = parts.map(forward).unzip();
                self.hidden = hidden;
                cache.check(kv_layer)?;
                return Ok(routed);
            }
            (Loaded::Head(head), UnitKind::Head(columns)) => {
                if columns.start == 0 {
                    if self.rows == Rows::Last {
                        let last = self.hidden.pop().expect("a pass has columns");
                        self.hidden = vec![last.clone().narrow(1, last.dims()[1] - 1, 1)];
                    }
                    self.hidden.iter_mut().for_each(|x| *x = head.norm(x.clone()));
                }
                for (i, x) in self.hidden.iter().enumerate() {
                    let [batch, seq, _] = x.dims();
                    let values = head.logits(x.clone()).cast(DType::F32).into_data().convert::<f32>();
                    let values = values.into_vec::<f32>().unwrap_or_default();
                    let (start, width) = match self.rows {
                        Rows::Last => (0, 1),
                        Rows::All => (self.chunks[i].columns.start, self.chunks.last().map_or(0, |c| c.columns.end)),
                    };
                    let places = (0..batch).flat_map(|row| (0..seq).map(move |column| row * width + start + column));
                    self.logits.put(places, columns, &values);
                }
            }
            _ => unreachable!("a unit is loaded as what it is"),
        }
        Ok(Vec::new())
    }
}

impl<B: Backend> Pass<B> {
    /// Ends a layer with what experts have made, chunk by chunk.
    fn finish(&mut self, running: &Running<B>, mixtures: Vec<Option<Mixture<B>>>) {
        let Loaded::Layer(layer) = &running.module else { return };
        for ((x, inputs), mixture) in self.hidden.iter_mut().zip(&self.layer_inputs).zip(mixtures) {
            if let Some(mixture) = mixture {
                *x = layer.finish(x.clone(), mixture.like(x), inputs.as_ref());
            }
        }
        self.marks.put(&self.hidden);
    }
}

/// The kinds of rotations that a model has, and which of them each layer has.
pub(super) fn ropes<B: Backend>(decoder: &dyn Decoder<B>, layers: usize) -> (Vec<RopeParameters>, Vec<usize>) {
    let mut kinds = Vec::new();
    let mut kind = |rope: RopeParameters| {
        kinds.iter().position(|known| *known == rope).unwrap_or_else(|| {
            kinds.push(rope);
            kinds.len() - 1
        })
    };
    let of = (0..layers).map(|layer| kind(decoder.rope(layer))).collect();
    (kinds, of)
}

/// The ids of every sequence, padded on the left with its first: numbers of the usual size, which nobody sees.
fn padded(tokens: &[Vec<u32>], width: usize) -> Vec<Vec<u32>> {
    let row = |tokens: &Vec<u32>| {
        let padding = std::iter::repeat_n(tokens[0], width - tokens.len());
        padding.chain(tokens.iter().copied()).collect()
    };
    tokens.iter().map(row).collect()
}
