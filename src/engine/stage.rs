use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use leveret_models::layers::{Expert, Head};
use leveret_models::{Backend, DecoderLayer};

use super::Cancellation;
use crate::decoder::Decoder;
use crate::error::{AtPath, Error, Result};
use crate::experts::{Call, Pool, Shape};
use crate::memory::Limit;
use crate::plan::{DeviceBudget, DevicePlan, Tier};
use crate::record::Record;
use crate::stats::PassStats;
use crate::stream::{DeviceSlot, Kept, Memory, Order, Readers, Source, Stream, Transfer};
use crate::unit::{CHUNK, Unit, UnitKind};
use crate::upload::Shared;

/// One device with its budget, and what of the model it runs.
pub(crate) struct Stage<B: Backend> {
    pub(crate) device: B::Device,
    pub(crate) upload: Shared<B>,
    /// Memory that it computes in.
    pub(crate) budget: Limit,
    /// Host memory, for a device with memory of its own.
    pub(crate) host_budget: Limit,
    /// What is resident, by index of the unit.
    resident: HashMap<usize, Running<B>>,
    kept: Kept,
    experts: Pool<B>,
    stream: Option<Stream>,
}

/// A unit that can run.
pub(super) struct Running<B: Backend> {
    pub(super) module: Loaded<B>,
    /// The device memory that the module's tensors are views of; dropped after them.
    _memory: Option<Arc<DeviceSlot>>,
}

/// The module of a unit.
pub(super) enum Loaded<B: Backend> {
    Layer(Box<dyn DecoderLayer<B>>),
    Head(Box<Head<B>>),
}

/// What a stage has to know of the model.
pub(super) struct Model<'a, B: Backend> {
    pub(super) units: &'a Arc<Vec<Unit>>,
    /// Layer by layer, the experts that its tokens choose among.
    pub(super) experts: &'a [Vec<Unit>],
    pub(super) decoder: &'a dyn Decoder<B>,
    pub(super) readers: &'a Readers,
    pub(super) transfer: Transfer,
    /// What ends waiting for any of it.
    pub(super) cancellation: &'a Cancellation,
}

impl<B: Backend> Stage<B> {
    pub(crate) fn new(device: B::Device, upload: Shared<B>, budget: Limit, host_budget: Limit) -> Self {
        let (resident, kept, experts) = (HashMap::new(), Kept::default(), Pool::new(upload.clone()));
        Self { device, upload, budget, host_budget, resident, kept, experts, stream: None }
    }

    pub(super) fn budget(&self) -> DeviceBudget {
        DeviceBudget {
            device: self.budget.bytes,
            host: self.host_budget.bytes,
            has_own_memory: self.upload.has_own_memory(),
        }
    }

    /// Waits until the device has done what it was told, where it works on its own.
    pub(super) fn synchronise(&self) -> Result<()> {
        match self.upload.has_own_memory() {
            true => B::sync(&self.device).map_err(Error::device),
            false => Ok(()),
        }
    }

    /// Gives back memory that tensors no longer take, unless the budget has room for so many bytes beside it: the next
    /// request takes it again.
    pub(super) fn make_room(&self, bytes: u64) -> Result<()> {
        match self.has_room(bytes) {
            true => Ok(()),
            false => self.clean_up(),
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        let all = self.upload.taken_memory().map(|taken| taken.saturating_add(bytes));
        all.zip(self.budget.bytes).is_some_and(|(all, budget)| all <= budget)
    }

    /// Gives back memory that tensors no longer take.
    pub(super) fn clean_up(&self) -> Result<()> {
        if self.upload.has_own_memory() {
            self.synchronise()?;
            B::memory_cleanup(&self.device);
        }
        Ok(())
    }

    /// Lets go of everything that the tiers have no room for, and of the stream.
    pub(super) fn clear(&mut self, tiers: &[Tier], plan: &DevicePlan, experts: &[Vec<Unit>]) -> Result<()> {
        self.stream = None;
        let at = |unit, tier| plan.units.contains(&unit) && tiers[unit] == tier;
        self.resident.retain(|unit, _| at(*unit, Tier::Device));
        self.kept.retain(|unit| at(unit, Tier::Host));
        let largest = |len: fn(&Unit) -> usize| {
            plan.units.iter().filter_map(|unit| experts.get(*unit)).flatten().map(len).max().unwrap_or(0)
        };
        let shape = Shape {
            kept: plan.experts,
            ahead: if plan.expert_slots > 0 { plan.expert_slots } else { plan.experts },
            host_kept: plan.host_experts,
            host_len: largest(|unit| unit.host_len),
            device_len: largest(|unit| unit.device_len),
        };
        self.experts.shrink(&shape, |layer| plan.units.contains(&layer))
    }

    /// Ends the stream: its order no longer fits the pass that comes next.
    pub(super) fn stop(&mut self) {
        self.stream = None;
        self.kept.retain(|_| true);
    }

    pub(super) fn resident(&self, unit: usize) -> Option<&Running<B>> {
        self.resident.get(&unit)
    }

    pub(super) fn keep(&mut self, unit: usize, running: Running<B>) {
        self.resident.insert(unit, running);
    }

    /// Lets a stream run over what is not resident: what stays first of all once, the rest over and over.
    pub(super) fn start(&mut self, model: &Model<'_, B>, tiers: &[Tier], plan: &DevicePlan) -> Result<()> {
        self.experts.grow()?;
        if self.stream.is_some() {
            return Ok(());
        }
        let order = |unit: &usize| Order { unit: *unit, tier: tiers[*unit] };
        let first: Vec<_> = plan.units.iter().filter(|unit| !self.resident.contains_key(unit)).map(order).collect();
        let rest = plan.units.iter().map(order).filter(|order| order.tier != Tier::Device).collect();
        if first.is_empty() {
            return Ok(());
        }
        let upload = &self.upload;
        let own_memory = upload.has_own_memory();
        let (count, len) = match own_memory {
            true => (plan.ring as usize / CHUNK, CHUNK),
            false => (plan.slots, plan.slot_len as usize),
        };
        let host = |_| upload.page_lock(upload.host_memory(len).at("host memory")?);
        let stays = first.iter().filter(|order| own_memory && order.tier == Tier::Device);
        let stays = stays.map(|order| Ok((order.unit, upload.device_memory(model.units[order.unit].device_len)?)));
        let slots = if own_memory { plan.slots } else { 0 };
        let memory = Memory {
            host_ring: (0..count).map(host).collect::<Result<_>>()?,
            device_ring: (0..slots).map(|_| upload.device_memory(plan.slot_len as usize)).collect::<Result<_>>()?,
            resident: stays.collect::<Result<_>>()?,
            kept: self.kept.clone(),
        };
        let source = Source {
            units: model.units.clone(),
            upload: upload.clone(),
            keeps_host_memory: B::USES_HOST_MEMORY && !own_memory,
        };
        // Memory that the pool hands out may still be read by what was computed in it before.
        self.synchronise()?;
        self.stream = Some(Stream::start(source, memory, model.readers, model.transfer, first, rest)?);
        Ok(())
    }

    /// Runs `each` with every expert of a layer that is wanted, in ascending order.
    pub(super) fn call_experts(
        &mut self,
        model: &Model<'_, B>,
        (layer, wanted): (usize, &[usize]),
        stats: &mut PassStats,
        each: impl FnMut(usize, &dyn Expert<B>),
    ) -> Result<()> {
        let experts = model.decoder.experts(layer).ok_or(Error::ReaderStopped)?;
        let before = model.experts[..layer].iter().map(Vec::len).sum::<usize>();
        let call = Call {
            device: &self.device,
            readers: model.readers,
            transfer: model.transfer,
            layer,
            experts: &experts,
            units: &model.experts[layer],
            number: model.units.len() + before,
            wanted,
            is_over: &|| model.cancellation.is_asked_for(),
        };
        self.experts.call(&call, stats, each)
    }

    /// The next unit of the stream, made into a module.
    pub(super) fn take(&mut self, model: &Model<'_, B>, index: usize, stats: &mut PassStats) -> Result<Running<B>> {
        let started = Instant::now();
        let stream = self.stream.as_mut().ok_or(Error::ReaderStopped)?;
        let arrived = stream.next(&|| model.cancellation.is_asked_for())?;
        if arrived.order.unit != index {
            // A pass that ended in a panic has left the stream in the middle of its order; it ends once its memory is
            // free.
            drop(arrived);
            self.stop();
            return Err(Error::ReaderStopped);
        }
        let there = Instant::now();
        stats.arrived((started, there), &arrived);
        let unit = &model.units[index];
        let record = Record { unit, arrived: &arrived, upload: self.upload.as_ref() };
        let module = match &unit.kind {
            UnitKind::Layer(layer) => Loaded::Layer(model.decoder.load_layer(*layer, &record, &self.device)?),
            UnitKind::Head(rows) => {
                Loaded::Head(Box::new(model.decoder.load_head(rows.len(), rows.start == 0, &record, &self.device)?))
            }
            UnitKind::Expert { .. } => return Err(Error::ReaderStopped),
        };
        stats.convert_seconds += there.elapsed().as_secs_f64();
        // Tensors made of host memory hold on to it themselves, or have copied it.
        Ok(Running { module, _memory: arrived.device })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::time::Duration;

    use burn::backend::Flex;

    use super::*;
    use crate::upload::simulated::SimulatedUpload;

    /// What is taken and what comes have to fit the budget together; the least that runs has no room to spare.
    #[test]
    fn memory_stays_where_the_budget_has_room() {
        let upload: Shared<Flex> = Arc::new(SimulatedUpload::new(Duration::ZERO));
        let _taken = upload.device_memory(600).expect("there is so much");
        for (bytes, coming, room) in [(Some(1000), 400, true), (Some(1000), 401, false), (None, 0, false)] {
            let limit = Limit { bytes, available: 1 << 30 };
            let stage = Stage::new(Default::default(), upload.clone(), limit, limit);
            assert_eq!(stage.has_room(coming), room, "{bytes:?} {coming}");
        }
    }
}
