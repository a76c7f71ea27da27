//! One pass: for each unit take its weights, run it, give them back.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use leveret_models::layers::{Attention, Head, Positions, Rope, Step};
use leveret_models::{Backend, DecoderLayer, Dims};

use crate::cache::Cache;
use crate::checkpoint::Checkpoint;
use crate::decoder::Decoder;
use crate::error::{AtPath, Error, Least, Result};
use crate::memory::Limit;
use crate::plan::{Needs, Plan, Tier};
use crate::record::{Record, stored_dtype};
use crate::stats::PassStats;
use crate::stream::{Arrived, HostTier, Order, Source, Stream, Transfer};
use crate::unit::{Unit, UnitKind, Units};
use crate::upload::Upload;

/// What an engine is made of.
pub(crate) struct Parts<B: Backend> {
    pub(crate) decoder: Box<dyn Decoder<B>>,
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) units: Units,
    pub(crate) attention: Box<dyn Attention<B>>,
    pub(crate) device: B::Device,
    /// Dtype of hidden states and KV cache.
    pub(crate) dtype: DType,
    /// Memory of the device that may be taken.
    pub(crate) budget: Limit,
    /// Memory of the host, for a device with memory of its own.
    pub(crate) host_budget: Limit,
    pub(crate) transfer: Transfer,
    pub(crate) upload: Arc<dyn Upload<B>>,
}

/// Runs passes over a checkpoint, with as many of its units in memory as the budget allows.
pub(crate) struct Engine<B: Backend> {
    parts: Parts<B>,
    units: Arc<Vec<Unit>>,
    plan: Option<Plan>,
    /// Unit by unit, what is resident.
    resident: Vec<Option<Running<B>>>,
    host_tier: HostTier,
    stream: Option<Stream>,
}

/// A unit that can run.
struct Running<B: Backend> {
    module: Loaded<B>,
    /// The device memory that the module's tensors are views of; dropped after them, when the device is done.
    _memory: Option<Arrived>,
}

/// The module of a unit.
enum Loaded<B: Backend> {
    Layer(Box<dyn DecoderLayer<B>>),
    Head(Box<Head<B>>),
}

/// Which positions of a pass to compute logits of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The last of every sequence.
    Last,
    /// All of them, padding included.
    All,
}

/// Logits in f32, one row of `vocab_size` for each position that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logits {
    values: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.vocab_size)
    }
}

impl<B: Backend> Engine<B> {
    pub(crate) fn new(mut parts: Parts<B>) -> Self {
        let units = Arc::new(std::mem::take(&mut parts.units.units));
        let resident = units.iter().map(|_| None).collect();
        Self { parts, units, plan: None, resident, host_tier: HostTier::default(), stream: None }
    }

    pub(crate) fn dims(&self) -> Dims {
        self.parts.decoder.dims()
    }

    pub(crate) fn dtype(&self) -> DType {
        self.parts.dtype
    }

    /// The plan of the last pass.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.parts.checkpoint
    }

    /// The plan for `batch` sequences of `prompt` tokens and `max_tokens` more.
    pub(crate) fn plan_for(&self, batch: usize, prompt: usize, max_tokens: usize) -> Result<Plan> {
        self.plan_of(self.parts.needs(batch, prompt, prompt.saturating_add(max_tokens), Rows::Last))
    }

    fn plan_of(&self, needs: Needs) -> Result<Plan> {
        let sizes = self.parts.sizes(&self.units);
        let plan = Plan::new(&sizes, needs, self.parts.budget.bytes)?;
        if plan.bytes > self.parts.budget.available {
            let least = Least { slot: plan.slot_len, kv_cache: needs.kv_cache, activations: needs.activations };
            return Err(Error::Budget { budget: self.parts.budget.available, least });
        }
        match self.parts.upload.has_own_memory() {
            true => plan.with_host(&sizes, self.parts.host_budget.bytes),
            false => Ok(plan),
        }
    }

    /// Makes room for `batch` sequences that will have up to `columns` tokens, up to `seq` of them in one pass, and
    /// gives their empty KV cache.
    ///
    /// One plan serves all passes of a generation: it is made for the largest of them.
    pub(crate) fn begin(&mut self, batch: usize, seq: usize, columns: usize, rows: Rows) -> Result<Cache<B>> {
        let max_positions = self.dims().max_positions;
        if columns > max_positions {
            let (requested, prompt, max_tokens) = (columns, seq, columns - seq);
            return Err(Error::TooLong { requested, prompt, max_tokens, max_positions });
        }
        let plan = self.plan_of(self.parts.needs(batch, seq, columns, rows))?;
        self.adopt(plan)?;
        Ok(Cache::new(self.parts.decoder.as_ref(), batch, columns))
    }

    /// Runs the model over new tokens of every sequence in `cache`, which may differ in number.
    ///
    /// After an error the cache is of no use: some layers have seen the tokens, others have not.
    pub(crate) fn forward(
        &mut self,
        tokens: &[Vec<u32>],
        cache: &mut Cache<B>,
        rows: Rows,
    ) -> Result<(Logits, PassStats)> {
        let started = Instant::now();
        let positions = self.check(tokens, cache)?;
        cache.begin(&positions);
        let mut stats = PassStats { tokens: tokens.iter().map(Vec::len).sum(), ..PassStats::default() };
        let result = self.pass(tokens, &positions, cache, rows, &mut stats);
        if result.is_err() {
            // Its order no longer fits the pass that comes next.
            self.stream = None;
        }
        stats.seconds = started.elapsed().as_secs_f64();
        Ok((result?, stats))
    }

    /// The positions of `tokens`, if the model has them all.
    fn check(&self, tokens: &[Vec<u32>], cache: &Cache<B>) -> Result<Positions> {
        let vocab_size = self.dims().vocab_size;
        if tokens.iter().any(Vec::is_empty) || tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some(&id) = tokens.iter().flatten().find(|id| **id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        let counts: Vec<_> = tokens.iter().map(Vec::len).collect();
        let positions = cache.positions_of(&counts);
        let (requested, room) = (cache.columns().columns() + positions.columns(), cache.reserve());
        match requested > room {
            true => Err(Error::TooLong { requested, prompt: requested, max_tokens: 0, max_positions: room }),
            false => Ok(positions),
        }
    }

    /// Follows a plan from now on: lets go of what it has no room for.
    fn adopt(&mut self, plan: Plan) -> Result<()> {
        let shape = |plan: &Plan| (plan.tiers.clone(), plan.slots, plan.slot_len, plan.host_slots);
        if self.plan.as_ref().map(shape) != Some(shape(&plan)) {
            self.stream = None;
            self.synchronise()?;
            for (unit, tier) in self.resident.iter_mut().zip(&plan.tiers) {
                unit.take_if(|_| *tier != Tier::Device);
            }
            let mut kept = self.host_tier.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|unit, _| plan.tiers[*unit] == Tier::Host);
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// One trip through all units.
    fn pass(
        &mut self,
        tokens: &[Vec<u32>],
        positions: &Positions,
        cache: &mut Cache<B>,
        rows: Rows,
        stats: &mut PassStats,
    ) -> Result<Logits> {
        self.start_stream()?;
        let dims = self.dims();
        let device = self.parts.device.clone();
        let rope = Rope::new(&self.parts.decoder.rope(), dims.head_dim, positions, &device);
        let keys = cache.columns().clone();
        let mut x = self.embed(tokens, positions)?;
        let mut sums = vec![x.clone().cast(DType::F32).sum()];
        let mut logits = Vec::new();

        for index in 0..self.units.len() {
            let arrived = match &self.resident[index] {
                Some(_) => None,
                None => Some(self.take(index, stats)?),
            };
            let unit = arrived.as_ref().or(self.resident[index].as_ref()).ok_or(Error::ReaderStopped)?;
            match &unit.module {
                Loaded::Layer(layer) => {
                    let attention = self.parts.attention.as_ref();
                    let cache = &mut cache.layers[index];
                    x = layer.forward(x, &mut Step { rope: &rope, cache, queries: positions, keys: &keys, attention });
                }
                Loaded::Head(head) => {
                    if logits.is_empty() {
                        x = head.norm(match rows {
                            Rows::Last => x.narrow(1, positions.columns() - 1, 1),
                            Rows::All => x,
                        });
                    }
                    logits.push(head.logits(x.clone()).cast(DType::F32));
                }
            }
            if let UnitKind::Layer(layer) = self.units[index].kind {
                cache.check(layer)?;
            }
            sums.push(x.clone().cast(DType::F32).sum());
            let Some(arrived) = arrived else { continue };
            if self.plan.as_ref().is_some_and(|plan| plan.tiers[index] == Tier::Device) {
                self.resident[index] = Some(arrived);
            } else {
                // The slot is overwritten as soon as it is free: first the kernels that read it have to end.
                self.synchronise()?;
            }
        }
        let logits = Tensor::cat(logits, 2).into_data().convert::<f32>();
        let values = logits.into_vec::<f32>().unwrap_or_default();
        match values.iter().all(|logit| logit.is_finite()) {
            true => Ok(Logits { values, vocab_size: dims.vocab_size }),
            false => Err(Error::NonFinite { place: self.first_not_finite(sums) }),
        }
    }

    /// Waits until the device has done what it was told, where it works on its own.
    fn synchronise(&self) -> Result<()> {
        match self.parts.upload.has_own_memory() {
            true => B::sync(&self.parts.device).map_err(|error| Error::Device { reason: format!("{error:?}") }),
            false => Ok(()),
        }
    }

    /// Lets the stream run over what is not resident: what stays first of all once, the rest over and over.
    fn start_stream(&mut self) -> Result<()> {
        let Some(plan) = self.plan.as_ref().filter(|_| self.stream.is_none()) else { return Ok(()) };
        let order = |unit: usize| Order { unit, tier: plan.tiers[unit] };
        let first: Vec<_> = (0..self.units.len()).filter(|i| self.resident[*i].is_none()).map(order).collect();
        let rest = (0..self.units.len()).filter(|i| plan.tiers[*i] != Tier::Device).map(order).collect();
        if first.is_empty() {
            return Ok(());
        }
        let upload = &self.parts.upload;
        let host_len = match upload.has_own_memory() {
            true => self.units.iter().map(|unit| unit.slot_len).max().unwrap_or(0),
            false => plan.slot_len as usize,
        };
        let host = |_| upload.host_memory(host_len).at(self.parts.checkpoint.dir());
        let stays = first.iter().filter(|order| order.tier == Tier::Device);
        let resident = |order: &Order| Ok((order.unit, upload.device_memory(self.units[order.unit].slot_len)?));
        let source = Source {
            checkpoint: self.parts.checkpoint.clone(),
            units: self.units.clone(),
            upload: upload.clone(),
            transfer: self.parts.transfer,
            keeps_host_memory: B::USES_HOST_MEMORY && !upload.has_own_memory(),
            host_tier: self.host_tier.clone(),
            host_ring: (0..plan.host_slots).map(host).collect::<Result<_>>()?,
            device_ring: (0..plan.slots)
                .map(|_| upload.device_memory(plan.slot_len as usize))
                .collect::<Result<_>>()?,
            resident: stays.map(resident).collect::<Result<_>>()?,
        };
        // Memory that the pool hands out may still be read by what was computed in it before.
        self.synchronise()?;
        self.stream = Some(Stream::start(source, first, rest)?);
        Ok(())
    }

    /// The next unit of the stream, made into a module.
    fn take(&mut self, index: usize, stats: &mut PassStats) -> Result<Running<B>> {
        let started = Instant::now();
        let arrived = self.stream.as_mut().ok_or(Error::ReaderStopped)?.next()?;
        if arrived.order.unit != index {
            // A pass that ended in a panic has left the stream in the middle of its order.
            self.stream = None;
            return Err(Error::ReaderStopped);
        }
        let unit = &self.units[index];
        stats.arrived(started.elapsed(), &arrived);
        let upload = self.parts.upload.as_ref();
        let record = Record { unit, arrived: &arrived, upload };
        let (decoder, device) = (&self.parts.decoder, &self.parts.device);
        let module = match &unit.kind {
            UnitKind::Layer(layer) => Loaded::Layer(decoder.load_layer(*layer, &record, device)?),
            UnitKind::Head(rows) => {
                Loaded::Head(Box::new(decoder.load_head(rows.len(), rows.start == 0, &record, device)?))
            }
        };
        // Tensors made of host memory hold on to it themselves, or have copied it.
        Ok(Running { module, _memory: upload.has_own_memory().then_some(arrived) })
    }

    /// Gathers the tokens' rows of the embedding from the file: `[batch, seq, hidden_size]`.
    ///
    /// Padding gets the row of the sequence's first token: numbers of the usual size, which nobody sees.
    fn embed(&self, tokens: &[Vec<u32>], positions: &Positions) -> Result<Tensor<B, 3>> {
        let (entry, dtype) = (&self.parts.units.embedding, self.parts.units.embedding_dtype);
        let hidden_size = self.dims().hidden_size;
        let (row, width) = (hidden_size * dtype.size(), positions.columns());
        let file = &self.parts.checkpoint.shards()[entry.shard];
        let mut bytes = vec![0; tokens.len() * width * row];
        let mut seen = HashMap::new();
        for (tokens, line) in tokens.iter().zip(bytes.chunks_mut(width * row)) {
            let padding = std::iter::repeat_n(&tokens[0], width - tokens.len());
            for (id, place) in padding.chain(tokens).zip(line.chunks_mut(row)) {
                let known: &mut Vec<u8> = seen.entry(*id).or_default();
                if known.is_empty() {
                    known.resize(row, 0);
                    file.read(entry.offset + u64::from(*id) * row as u64, known)?;
                }
                place.copy_from_slice(known);
            }
        }
        file.check_unchanged()?;
        let data = TensorData::from_bytes_vec(bytes, [tokens.len(), width, hidden_size], dtype);
        let stored = stored_dtype::<B>(dtype, &self.parts.device);
        Ok(Tensor::<B, 3>::from_data(data, (&self.parts.device, stored)).cast(self.parts.dtype))
    }

    /// Where numbers first went wrong, from the sums of the hidden states after the embedding and after every unit.
    fn first_not_finite(&self, sums: Vec<Tensor<B, 1>>) -> String {
        let finite = |sum: Tensor<B, 1>| sum.into_data().iter::<f32>().all(f32::is_finite);
        match sums.into_iter().position(|sum| !finite(sum)) {
            Some(0) => "the embedding".to_owned(),
            Some(unit) => self.units[unit - 1].kind.to_string(),
            None => "the head".to_owned(),
        }
    }
}
