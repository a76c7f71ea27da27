//! One pass: for each unit take its weights, run it, give them back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use leveret_models::layers::{Attention, Head, KvCache, Positions, Rope, Step};
use leveret_models::{Backend, DecoderLayer, Dims};

use crate::cache::Cache;
use crate::checkpoint::Checkpoint;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::memory::{self, Budget};
use crate::plan::{Needs, Plan, UnitSize};
use crate::record::{Record, stored_dtype};
use crate::stats::PassStats;
use crate::stream::{Order, Source, Stream, Transfer};
use crate::unit::{Unit, UnitKind, UnitTensor, Units};

/// What an engine is made of.
pub(crate) struct Parts<B: Backend> {
    pub(crate) decoder: Box<dyn Decoder<B>>,
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) units: Units,
    pub(crate) attention: Box<dyn Attention<B>>,
    pub(crate) device: B::Device,
    /// Dtype of hidden states and KV cache.
    pub(crate) dtype: DType,
    pub(crate) budget: Budget,
    pub(crate) transfer: Transfer,
}

/// Runs passes over a checkpoint, with as many of its units in memory as the budget allows.
pub(crate) struct Engine<B: Backend> {
    parts: Parts<B>,
    units: Arc<Vec<Unit>>,
    plan: Option<Plan>,
    /// Unit by unit, what is resident.
    resident: Vec<Option<Loaded<B>>>,
    stream: Option<Stream>,
}

/// A unit that can run.
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
    pub(crate) fn new(mut parts: Parts<B>) -> Result<Self> {
        if parts.budget == Budget::Free {
            // Asked once: what the engine itself takes later must not count against it.
            parts.budget = Budget::Bytes(memory::free()?);
        }
        let units = Arc::new(std::mem::take(&mut parts.units.units));
        let resident = units.iter().map(|_| None).collect();
        Ok(Self { parts, units, plan: None, resident, stream: None })
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
        let cache = self.cache(batch, prompt + max_tokens);
        let positions = cache.positions_of(&vec![prompt; batch]);
        Plan::new(&self.sizes(), self.needs(&positions, &cache), self.parts.budget)
    }

    /// An empty KV cache for `batch` sequences, with room for `reserve` columns.
    pub(crate) fn cache(&self, batch: usize, reserve: usize) -> Cache<B> {
        Cache::new(self.parts.decoder.as_ref(), batch, reserve)
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
        self.prepare(&positions, cache)?;
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
        let Dims { vocab_size, max_positions, .. } = self.dims();
        if tokens.iter().any(Vec::is_empty) || tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some(&id) = tokens.iter().flatten().find(|id| **id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        let counts: Vec<_> = tokens.iter().map(Vec::len).collect();
        let positions = cache.positions_of(&counts);
        match positions.longest() {
            requested if requested > max_positions => {
                Err(Error::TooLong { requested, prompt: requested, max_tokens: 0, max_positions })
            }
            _ => Ok(positions),
        }
    }

    /// Makes the plan for a pass and what follows it, and lets go of what it no longer has room for.
    fn prepare(&mut self, positions: &Positions, cache: &Cache<B>) -> Result<()> {
        let plan = Plan::new(&self.sizes(), self.needs(positions, cache), self.parts.budget)?;
        let fits = self.plan.as_ref().is_some_and(|old| {
            old.resident == plan.resident && old.slots == plan.slots && old.slot_len == plan.slot_len
        });
        if !fits {
            self.stream = None;
            for (unit, stays) in self.resident.iter_mut().zip(&plan.resident) {
                unit.take_if(|_| !stays);
            }
        }
        self.plan = Some(plan);
        Ok(())
    }

    fn sizes(&self) -> Vec<UnitSize> {
        let stored = |dtype: DType| stored_dtype::<B>(dtype, &self.parts.device);
        let size = |unit: &Unit| {
            let copied = |tensor: &&UnitTensor| !B::USES_HOST_MEMORY || stored(tensor.dtype) != tensor.dtype;
            let bytes = |tensor: &UnitTensor| tensor.len / tensor.dtype.size() * stored(tensor.dtype).size();
            let tensors: usize = unit.tensors.iter().filter(copied).map(bytes).sum();
            UnitSize { slot: unit.slot_len as u64, tensors: tensors as u64 }
        };
        self.units.iter().map(size).collect()
    }

    /// Memory beside weights for a pass over `positions`.
    fn needs(&self, positions: &Positions, cache: &Cache<B>) -> Needs {
        let dims = self.dims();
        let (batch, seq) = (positions.batch(), positions.columns());
        let columns = cache.columns().columns() + seq;
        let number = self.parts.dtype.size();
        let column = 2 * batch * dims.num_kv_heads * dims.head_dim * number;
        let capacity =
            |layer| KvCache::<B>::capacity_for(columns, cache.reserve(), self.parts.decoder.sliding_window(layer));
        // While a layer appends, its old buffers and its new ones exist.
        let kv_cache = column * ((0..dims.num_layers).map(capacity).sum::<usize>() + columns);
        // The widest moments of a layer, in f32: three tensors of the MLP, or queries, keys and values twice over.
        let heads = (dims.num_heads + 2 * dims.num_kv_heads) * dims.head_dim;
        let widest = (3 * dims.intermediate_size).max(3 * heads) + 4 * dims.hidden_size;
        let scores = self.parts.attention.scratch_len(batch * dims.num_heads, seq, columns);
        let activations = 4 * (batch * seq * widest + scores + 2 * batch * dims.vocab_size) + KERNEL_SCRATCH;
        Needs { kv_cache: kv_cache as u64, activations: activations as u64 }
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
            match unit {
                Loaded::Layer(layer) => {
                    let attention = self.parts.attention.as_ref();
                    let step = &mut Step {
                        rope: &rope,
                        cache: &mut cache.layers[index],
                        queries: positions,
                        keys: &keys,
                        attention,
                    };
                    x = layer.forward(x, step);
                    cache.check(index)?;
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
            sums.push(x.clone().cast(DType::F32).sum());
            if self.plan.as_ref().is_some_and(|plan| plan.resident[index]) && arrived.is_some() {
                self.resident[index] = arrived;
            }
        }
        let logits = Tensor::cat(logits, 2).into_data().convert::<f32>();
        let values = logits.into_vec::<f32>().unwrap_or_default();
        match values.iter().all(|logit| logit.is_finite()) {
            true => Ok(Logits { values, vocab_size: dims.vocab_size }),
            false => Err(Error::NonFinite { place: self.first_not_finite(sums) }),
        }
    }

    /// Lets the stream run over what is not resident: what stays first of all once, the rest over and over.
    fn start_stream(&mut self) -> Result<()> {
        let Some(plan) = self.plan.as_ref().filter(|_| self.stream.is_none()) else { return Ok(()) };
        let order = |unit: usize| Order { unit, own_memory: plan.resident[unit] && B::USES_HOST_MEMORY };
        let first: Vec<_> = (0..self.units.len()).filter(|i| self.resident[*i].is_none()).map(order).collect();
        let rest = (0..self.units.len()).filter(|i| !plan.resident[*i]).map(order).collect();
        if !first.is_empty() {
            let source = Source {
                checkpoint: self.parts.checkpoint.clone(),
                units: self.units.clone(),
                slots: plan.slots,
                slot_len: plan.slot_len as usize,
                transfer: self.parts.transfer,
            };
            self.stream = Some(Stream::start(source, first, rest)?);
        }
        Ok(())
    }

    /// The next unit of the stream, made into a module.
    fn take(&mut self, index: usize, stats: &mut PassStats) -> Result<Loaded<B>> {
        let started = Instant::now();
        let arrived = self.stream.as_mut().ok_or(Error::ReaderStopped)?.next()?;
        assert_eq!(arrived.order.unit, index, "units arrive in the order of a pass");
        let unit = &self.units[index];
        stats.arrived(unit.bytes(), started.elapsed(), arrived.read);
        let record = Record { unit, weights: arrived.weights };
        let (decoder, device) = (&self.parts.decoder, &self.parts.device);
        match &unit.kind {
            UnitKind::Layer(layer) => decoder.load_layer(*layer, &record, device).map(Loaded::Layer),
            UnitKind::Head(rows) => {
                decoder.load_head(rows.len(), rows.start == 0, &record, device).map(|head| Loaded::Head(Box::new(head)))
            }
        }
    }

    /// Gathers the tokens' rows of the embedding from the file: `[batch, seq, hidden_size]`, zeros for padding.
    fn embed(&self, tokens: &[Vec<u32>], positions: &Positions) -> Result<Tensor<B, 3>> {
        let (entry, dtype) = (&self.parts.units.embedding, self.parts.units.embedding_dtype);
        let hidden_size = self.dims().hidden_size;
        let (row, width) = (hidden_size * dtype.size(), positions.columns());
        let file = &self.parts.checkpoint.shards()[entry.shard];
        let mut bytes = vec![0; tokens.len() * width * row];
        let mut seen = HashMap::new();
        for (tokens, line) in tokens.iter().zip(bytes.chunks_mut(width * row)) {
            for (id, place) in tokens.iter().zip(line.chunks_mut(row).skip(width - tokens.len())) {
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

/// What kernels widen weights into, and what they widen inputs into.
const KERNEL_SCRATCH: usize = 8 << 20;
