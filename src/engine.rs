//! Runs passes: over one device or several, each with its units, its budget and its stream.

mod cancellation;
mod embedding;
mod fingerprint;
mod group;
mod logits;
mod marks;
mod measure;
mod mix;
mod needs;
mod pass;
mod request;
mod stage;
#[cfg(all(test, feature = "flex"))]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::DType;
use leveret_models::layers::Attention;
use leveret_models::{Backend, Dims};

pub use cancellation::Cancellation;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use group::Group;
pub(crate) use logits::{Logits, Rows, are_many};
pub(crate) use request::Request;
pub(crate) use stage::Stage;

use self::embedding::Embedding;
use crate::cache::Cache;
use crate::checkpoint::Checkpoint;
use crate::decoder::Decoder;
use crate::error::{Error, Least, Result};
use crate::plan::Plan;
use crate::stats::PassStats;
use crate::stream::{Readers, Transfer};
use crate::unit::{Unit, UnitKind, Units};

/// What an engine is made of, beside its devices.
pub(crate) struct Parts<B: Backend> {
    pub(crate) decoder: Box<dyn Decoder<B>>,
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) attention: Box<dyn Attention<B>>,
    /// Dtype of hidden states and KV cache.
    pub(crate) dtype: DType,
    pub(crate) transfer: Transfer,
    /// Whether to wait for the device after every unit, so that its time can be told.
    pub(crate) profile: bool,
}

/// Runs passes over a checkpoint, with as many of its units in memory as the budgets allow.
pub(crate) struct Engine<B: Backend> {
    parts: Parts<B>,
    units: Arc<Vec<Unit>>,
    experts: Vec<Vec<Unit>>,
    embedding: Embedding,
    /// The one that layers read of beside hidden states.
    layer_embedding: Option<Embedding>,
    /// At least one.
    stages: Vec<Stage<B>>,
    readers: Readers,
    plan: Option<Arc<Plan>>,
    /// Sequences that the plan is made for.
    batch: usize,
    cancellation: Cancellation,
}

impl<B: Backend> Engine<B> {
    pub(crate) fn new(parts: Parts<B>, units: Units, stages: Vec<Stage<B>>) -> Result<Self> {
        let readers = Readers::start(parts.checkpoint.clone(), Readers::number())?;
        let cancellation = Cancellation::default();
        let embedding = |of| Embedding::new(parts.checkpoint.clone(), of, &cancellation);
        let layer_embedding = units.layer_embedding.map(embedding);
        let embedding = embedding((units.embedding, units.embedding_dtype));
        let (units, experts) = (Arc::new(units.units), units.experts);
        Ok(Self {
            parts,
            units,
            experts,
            embedding,
            layer_embedding,
            stages,
            readers,
            plan: None,
            batch: 1,
            cancellation,
        })
    }

    pub(crate) fn dims(&self) -> Dims {
        self.parts.decoder.dims()
    }

    pub(crate) fn dtype(&self) -> DType {
        self.parts.dtype
    }

    pub(crate) fn decoder(&self) -> &dyn Decoder<B> {
        self.parts.decoder.as_ref()
    }

    pub(crate) fn attention(&self) -> &dyn Attention<B> {
        self.parts.attention.as_ref()
    }

    pub(crate) fn embeddings(&self) -> impl Iterator<Item = &Embedding> {
        std::iter::once(&self.embedding).chain(&self.layer_embedding)
    }

    pub(crate) fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Layer by layer, the experts that its tokens choose among.
    pub(crate) fn experts(&self) -> &[Vec<Unit>] {
        &self.experts
    }

    /// All units, experts included.
    fn all_units(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().chain(self.experts.iter().flatten())
    }

    /// The first device; all are of one kind.
    pub(crate) fn device(&self) -> &B::Device {
        &self.stages[0].device
    }

    pub(crate) fn has_own_memory(&self) -> bool {
        self.stages[0].upload.has_own_memory()
    }

    /// Whether weights are brought before they are needed.
    pub(crate) fn reads_ahead(&self) -> bool {
        self.parts.transfer != Transfer::Sync
    }

    /// The plan of the last pass.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.parts.checkpoint
    }

    /// The most memory of their own that the devices have taken so far, in bytes, where they tell.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        self.stages.iter().map(|stage| stage.upload.peak_memory()).sum()
    }

    /// The plan for a request.
    pub(crate) fn plan_for(&self, request: Request) -> Result<Plan> {
        let budgets: Vec<_> = self.stages.iter().map(Stage::budget).collect();
        let activations = |chunk| self.activations(request, chunk);
        let plan = Plan::new(&self.sizes(request), (request.batch, request.seq, B::CHUNK), activations, &budgets)?;
        for (device, stage) in plan.devices.iter().zip(&self.stages) {
            let budget = stage.budget.available;
            if device.bytes > budget {
                let (kv_cache, activations) = (device.kv_cache, device.activations);
                let (slot, expert) = (device.slot_len, device.expert_slot_len);
                return Err(Error::Budget { budget, least: Least { slot, expert, kv_cache, activations } });
            }
        }
        Ok(plan)
    }

    /// Makes room for what is asked for, and gives an empty KV cache.
    ///
    /// One plan serves all passes of a generation: it is made for the largest of them.
    pub(crate) fn begin(&mut self, request: Request) -> Result<Cache<B>> {
        self.make_room(request)?;
        Ok(Cache::new(self.decoder(), request.batch, request.columns))
    }

    /// Makes room for what is asked for.
    pub(crate) fn make_room(&mut self, request: Request) -> Result<()> {
        let max_positions = self.dims().max_positions;
        let Request { seq, columns, .. } = request;
        if columns > max_positions {
            let (requested, prompt, max_tokens) = (columns, seq, columns - seq);
            return Err(Error::TooLong { requested, prompt, max_tokens, max_positions });
        }
        // A pass that computes everything anew is longer than others.
        let longer = |beyond: usize| columns.min(beyond.saturating_add(seq));
        let seq =
            self.parts.decoder.recomputes_beyond().filter(|beyond| columns > *beyond).map_or(seq, longer).max(seq);
        let plan = self.plan_for(Request { seq, ..request })?;
        let batch = request.batch;
        let (units, resident, bytes, chunk) = (plan.tiers.len(), plan.resident(), plan.bytes(), plan.chunk);
        tracing::debug!(batch, seq, columns, units, resident, bytes, chunk, "follows a plan");
        self.batch = request.batch.max(1);
        self.entered(|engine| engine.adopt(plan))
    }

    /// The device that computes a layer by the present plan.
    pub(crate) fn device_of(&self, layer: usize) -> B::Device {
        let unit = self.units.iter().position(|unit| matches!(unit.kind, UnitKind::Layer(index) if index == layer));
        let stage = self.plan.as_ref().zip(unit).map_or(0, |(plan, unit)| plan.device_of(unit));
        self.stages[stage].device.clone()
    }

    /// What tells this model's keys and values from those of others.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.parts.checkpoint.clone(), self.dims(), self.dtype(), self.cancellation())
    }

    /// Refuses tokens that the model does not have.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.dims().vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocab_size) {
            Some(&id) => Err(Error::TokenId { id, vocab_size }),
            None => Ok(()),
        }
    }

    /// The length up to which a sequence is computed the same whatever others stand beside it, if there is an end to
    /// that.
    pub(crate) fn fixed_up_to(&self) -> Option<usize> {
        let decoder = self.decoder();
        let of_layers = (0..self.dims().num_layers).filter_map(|layer| decoder.rope(layer).fixed_up_to());
        of_layers.chain(decoder.recomputes_beyond()).min()
    }

    /// What stops a pass of this engine between two units.
    pub(crate) fn cancellation(&self) -> Cancellation {
        self.cancellation.clone()
    }

    /// Follows a plan from now on: lets go of what it has no room for.
    fn adopt(&mut self, plan: Plan) -> Result<()> {
        let shape = |plan: &Plan| {
            let memory = plan.devices.iter().map(|device| {
                let experts = (device.experts, device.host_experts);
                (device.units.clone(), device.slots, device.slot_len, device.ring, experts)
            });
            (plan.tiers.clone(), memory.collect::<Vec<_>>())
        };
        let same = self.plan.as_deref().map(shape) == Some(shape(&plan));
        for (stage, device) in self.stages.iter_mut().zip(&plan.devices) {
            match same {
                true => stage.make_room(device.kv_cache.saturating_add(device.activations))?,
                false => {
                    stage.clear(&plan.tiers, device, &self.experts)?;
                    stage.clean_up()?;
                }
            }
        }
        self.plan = Some(Arc::new(plan));
        Ok(())
    }

    /// Runs the model over new tokens of every sequence in `cache`, which may differ in number.
    ///
    /// After an error the cache is as it was, or empty where that is gone.
    pub(crate) fn forward(
        &mut self,
        tokens: &[Vec<u32>],
        cache: &mut Cache<B>,
        rows: Rows,
    ) -> Result<(Logits, PassStats)> {
        let (mut logits, stats) = self.forward_all(&mut [Group::new(tokens, cache, rows)])?;
        Ok((logits.remove(0), stats))
    }

    /// The same of several groups of sequences, each with a cache of its own: weights are brought once for all of them.
    pub(crate) fn forward_all(&mut self, groups: &mut [Group<'_, B>]) -> Result<(Vec<Logits>, PassStats)> {
        let started = Instant::now();
        for group in groups.iter() {
            group.check()?;
            group.tokens.iter().try_for_each(|tokens| self.check_tokens(tokens))?;
        }
        groups.iter_mut().for_each(|group| group.begin(self.parts.decoder.as_ref()));
        let mut stats = PassStats { tokens: groups.iter().map(Group::count).sum(), ..PassStats::default() };
        let result = self.entered(|engine| {
            let mut result = engine.pass(groups, &mut stats);
            // A prompt takes more memory than the tokens after it.
            if result.is_ok() && groups.iter().any(|group| group.positions.columns() > 1) {
                let plan = engine.plan.clone().expect("a pass follows `begin`");
                let mut stages = engine.stages.iter().zip(&plan.devices);
                result = stages.try_for_each(|(stage, device)| stage.make_room(device.activations)).and(result);
            }
            if let Err(Error::Cancelled) = &result {
                // Who waited has only looked.
                engine.cancellation.reset();
            }
            if result.is_err() {
                engine.stages.iter_mut().for_each(Stage::stop);
                groups.iter_mut().for_each(Group::undo);
            }
            result
        });
        stats.seconds = started.elapsed().as_secs_f64();
        let logits = result?.into_iter().zip(groups).map(|(logits, group)| group.answer(logits)).collect();
        Ok((logits, stats))
    }

    /// Runs what computes on the devices, whichever thread it is.
    pub(crate) fn entered<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> T {
        let upload = self.stages[0].upload.clone();
        let (mut run, mut result) = (Some(run), None);
        upload.enter(&mut || result = run.take().map(|run| run(self)));
        result.expect("`enter` runs what it is given")
    }
}
