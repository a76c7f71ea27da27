//! One trip through all units: for each take its weights, run it, give them back.

use std::ops::Range;
use std::time::Instant;

use burn::prelude::Tensor;
use burn::tensor::{DType, Transaction};
use leveret_models::Backend;
use leveret_models::layers::{Mixture, Positions, Rope, RopeParameters, Routed, Step};

use super::marks::Marks;
use super::stage::{Loaded, Model, Running};
use super::{Cancellation, Engine, Group, Logits, Rows};
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::plan::Tier;
use crate::stats::PassStats;
use crate::unit::{Unit, UnitKind};

/// Some columns of a group, few enough for a layer to compute at once.
struct Chunk {
    group: usize,
    columns: Range<usize>,
    queries: Positions,
    /// Positions of all columns of the KV cache up to these.
    keys: Positions,
}

/// Cuts the columns of a group into runs of at most `len`.
fn chunks<B: Backend>(group: usize, of: &Group<'_, B>, len: usize) -> Vec<Chunk> {
    let (queries, all) = (&of.positions, of.cache.columns());
    let (new, past) = (queries.columns(), all.columns() - queries.columns());
    let chunk = |start: usize| {
        let columns = start..(start + len).min(new);
        Chunk { group, queries: queries.narrow(columns.clone()), keys: all.narrow(0..past + columns.end), columns }
    };
    (0..new).step_by(len).map(chunk).collect()
}

/// What a pass carries from unit to unit.
pub(super) struct Pass<B: Backend> {
    /// Group by group.
    chunks: Vec<Chunk>,
    /// Chunk by chunk, `[batch, columns, hidden_size]`; from the head on normed, and of what was asked for alone.
    pub(super) hidden: Vec<Tensor<B, 3>>,
    /// Chunk by chunk, what layers read beside them, `[batch, columns, width]`.
    layer_inputs: Vec<Option<Tensor<B, 3>>>,
    /// Device by device, rotations of each chunk, each time those of every kind.
    rope: Vec<Vec<Vec<Rope<B>>>>,
    /// Layer by layer, which kind.
    rope_of: Vec<usize>,
    /// Group by group.
    logits: Vec<Logits>,
    /// Group by group, logits of last positions that the device still has: `[batch, 1, columns]` of each unit of the head.
    coming: Vec<Vec<Tensor<B, 3>>>,
    pub(super) marks: Marks<B>,
}

impl<B: Backend> Engine<B> {
    /// Runs the tokens of all groups through all units.
    pub(super) fn pass(&mut self, groups: &mut [Group<'_, B>], stats: &mut PassStats) -> Result<Vec<Logits>> {
        let plan = self.plan.clone().expect("a pass follows `begin`");
        let units = self.units.clone();
        let (decoder, transfer, readers) = (self.parts.decoder.as_ref(), self.parts.transfer, &self.readers);
        let cancellation = &self.cancellation;
        let model = Model { units: &units, experts: &self.experts, decoder, readers, transfer, cancellation };
        let begun = Instant::now();
        for (stage, device) in self.stages.iter_mut().zip(&plan.devices) {
            stage.start(&model, &plan.tiers, device)?;
        }
        stats.prepare_seconds += begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let dims = decoder.dims();
        // The plan's chunk is for as many sequences as it was made for; of fewer there are more columns in it.
        let len = |group: &Group<'_, B>| (plan.chunk * self.batch / group.positions.batch()).max(1);
        let numbered = groups.iter().enumerate();
        let chunks: Vec<_> = numbered.flat_map(|(i, group)| chunks(i, group, len(group))).collect();
        let mut at = plan.device_of(0);
        let device = &self.stages[at].device;
        let ids: Vec<_> = groups.iter().map(Group::padded).collect();
        let embed =
            |chunk: &Chunk| self.embedding.gather::<B>(&ids[chunk.group], &chunk.columns, (device, self.parts.dtype));
        let hidden = chunks.iter().map(embed).collect::<Result<Vec<_>>>()?;
        let inputs = |chunk: &Chunk| {
            let embedding = self.layer_embedding.as_mut();
            let ids = &ids[chunk.group];
            embedding.map(|it| it.gather::<B>(ids, &chunk.columns, (device, self.parts.dtype))).transpose()
        };
        let layer_inputs = chunks.iter().map(inputs).collect::<Result<Vec<_>>>()?;
        let (kinds, rope_of) = ropes(decoder, dims.num_layers);
        let rope = |device: &B::Device| {
            let table = |rope: &RopeParameters, chunk: &Chunk| {
                let group = &groups[chunk.group];
                match rope.follows_prompts() {
                    true => Rope::by_row(rope, dims.head_dim, &chunk.queries, group.cache.prompts(), device),
                    false => Rope::new(rope, dims.head_dim, &chunk.queries, group.positions.longest(), device),
                }
            };
            let of_chunk = |chunk: &Chunk| kinds.iter().map(|rope| table(rope, chunk)).collect();
            chunks.iter().map(of_chunk).collect()
        };
        let mut pass = Pass {
            rope: self.stages.iter().map(|stage| rope(&stage.device)).collect(),
            rope_of,
            chunks,
            marks: Marks::new(),
            hidden,
            logits: groups.iter().map(|group| Logits::new(group.all_logits(), dims.vocab_size)).collect(),
            coming: groups.iter().map(|_| Vec::new()).collect(),
            layer_inputs,
        };
        pass.marks.put(&pass.hidden);
        stats.compute_seconds += begun.elapsed().as_secs_f64();

        for (index, unit) in units.iter().enumerate() {
            self.cancellation.check()?;
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
            let attention = self.parts.attention.as_ref();
            let routed = pass.run(unit, running, at, (groups, decoder.kv_layer(index)), attention, cancellation)?;
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
        let begun = Instant::now();
        pass.read_logits();
        stats.compute_seconds += begun.elapsed().as_secs_f64();
        match pass.logits.iter().all(Logits::are_finite) {
            true => Ok(pass.logits),
            false => {
                let (place, is_widest) = (pass.marks.first_not_finite(&units), self.parts.dtype == DType::F32);
                Err(Error::NonFinite { place, is_widest })
            }
        }
    }
}

impl<B: Backend> Pass<B> {
    /// Brings what a pass carries to another device, by way of the host.
    fn move_to(&mut self, device: &B::Device) {
        let states = self.hidden.iter_mut().chain(self.layer_inputs.iter_mut().flatten());
        for x in states.chain(self.coming.iter_mut().flatten()) {
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
        (groups, kv_layer): (&mut [Group<'_, B>], usize),
        attention: &dyn leveret_models::layers::Attention<B>,
        cancellation: &Cancellation,
    ) -> Result<Vec<Option<Routed<B>>>> {
        match (&running.module, &unit.kind) {
            (Loaded::Layer(layer), UnitKind::Layer(index)) => {
                let beside = self.chunks.iter().zip(&self.rope[at]).zip(&mut self.layer_inputs);
                let parts = self.hidden.drain(..).zip(beside);
                let forward = |(x, ((chunk, ropes), layer_inputs)): (_, ((&Chunk, &Vec<_>), _))| {
                    cancellation.check()?;
                    let (queries, keys) = (&chunk.queries, &chunk.keys);
                    let cache = &mut groups[chunk.group].cache.layers[kv_layer];
                    let rope = &ropes[self.rope_of[*index]];
                    let mut step = Step { rope, cache, queries, keys, attention, layer_inputs, routed: None };
                    Ok((layer.forward(x, &mut step), step.routed))
                };
                let (hidden, routed) = parts.map(forward).collect::<Result<Vec<_>>>()?.into_iter().unzip();
                self.hidden = hidden;
                groups.iter().try_for_each(|group| group.cache.check(kv_layer))?;
                return Ok(routed);
            }
            (Loaded::Head(head), UnitKind::Head(columns)) => {
                if columns.start == 0 {
                    self.keep_asked(groups);
                    self.hidden.iter_mut().for_each(|x| *x = head.norm(x.clone()));
                }
                for (chunk, x) in self.chunks.iter().zip(&self.hidden) {
                    let (values, group) = (head.logits(x.clone()), &groups[chunk.group]);
                    match group.rows {
                        // Few: they are read together at the end, so that the device is waited for once.
                        Rows::Last => self.coming[chunk.group].push(values),
                        Rows::All => {
                            let [batch, seq, _] = values.dims();
                            let (start, width) = (chunk.columns.start, group.positions.columns());
                            let row = |row| (0..seq).map(move |column| row * width + start + column);
                            let values = values.cast(DType::F32).into_data();
                            self.logits[chunk.group].put((0..batch).flat_map(row), columns, values);
                        }
                    }
                }
            }
            _ => unreachable!("a unit is loaded as what it is"),
        }
        Ok(Vec::new())
    }

    /// Reads the logits that the device still has.
    fn read_logits(&mut self) {
        let coming = self.coming.drain(..).zip(&mut self.logits).filter(|(parts, _)| !parts.is_empty());
        let whole = |mut parts: Vec<Tensor<B, 3>>| match parts.len() {
            1 => parts.remove(0).cast(DType::F32),
            _ => Tensor::cat(parts, 2).cast(DType::F32),
        };
        let (tensors, logits): (Vec<_>, Vec<_>) = coming.map(|(parts, logits)| (whole(parts), logits)).unzip();
        if !tensors.is_empty() {
            let transaction = tensors.into_iter().fold(Transaction::default(), Transaction::register);
            logits.into_iter().zip(transaction.execute()).for_each(|(logits, values)| logits.fill(values));
        }
    }

    /// Drops the columns that nobody wants logits of: of some groups all but the last.
    fn keep_asked(&mut self, groups: &[Group<'_, B>]) {
        let parts = self.chunks.drain(..).zip(self.hidden.drain(..));
        let asked = |(chunk, x): (Chunk, Tensor<B, 3>)| {
            let Group { rows, positions, .. } = &groups[chunk.group];
            match rows {
                Rows::All => Some((chunk, x)),
                Rows::Last if chunk.columns.end < positions.columns() => None,
                Rows::Last => {
                    let last = x.dims()[1] - 1;
                    Some((chunk, x.narrow(1, last, 1)))
                }
            }
        };
        let kept: Vec<_> = parts.filter_map(asked).collect();
        (self.chunks, self.hidden) = kept.into_iter().unzip();
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
