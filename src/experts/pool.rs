use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use leveret_models::Backend;
use leveret_models::layers::{Expert, Experts};

use super::memory::Memory;
use super::recent::{Key, Recent};
use crate::decoder;
use crate::error::{Error, Result};
use crate::plan::Tier;
use crate::record::Record;
use crate::stats::PassStats;
use crate::stream::{Arrived, Clock, DeviceSlot, Fetch, Order, Readers, Transfer, Work};
use crate::unit::Unit;
use crate::upload::{InFlight, Shared};

/// The experts of one device: those that were used last stay, as many as there is room for.
pub(crate) struct Pool<B: Backend> {
    upload: Shared<B>,
    shape: Shape,
    memory: Memory<B>,
    /// Where they are computed with.
    here: Recent<Ready<B>>,
    /// In host memory, for a device with memory of its own.
    host: Recent<Bytes>,
    /// On their way, in the order in which they will be wanted.
    coming: VecDeque<(Key, Coming)>,
    clock: Clock,
}

/// How much room there is for experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// Experts that stay.
    pub(crate) kept: usize,
    /// Experts that may be on their way at a time.
    pub(crate) ahead: usize,
    /// Experts that stay in host memory, for a device with memory of its own.
    pub(crate) host_kept: usize,
    /// Bytes of one in host memory.
    pub(crate) host_len: usize,
    /// Bytes of one in a device's own memory.
    pub(crate) device_len: usize,
}

/// An expert that can run.
struct Ready<B: Backend> {
    expert: Box<dyn Expert<B>>,
    /// The device memory that its tensors are views of; dropped after them.
    _memory: Option<Arc<DeviceSlot>>,
}

/// How far an expert has come.
enum Coming {
    /// It is being read.
    Reading(Fetch),
    /// It is in host memory.
    There(Bytes, Work),
    /// It is being uploaded.
    Uploading(InFlight, Arc<DeviceSlot>, Work),
}

/// Some experts of one layer that are wanted.
pub(crate) struct Call<'a, B: Backend> {
    pub(crate) device: &'a B::Device,
    pub(crate) readers: &'a Readers,
    pub(crate) transfer: Transfer,
    pub(crate) layer: usize,
    pub(crate) experts: &'a Experts,
    /// All of the layer.
    pub(crate) units: &'a [Unit],
    /// What traces call the first of them.
    pub(crate) number: usize,
    /// Which are wanted, in ascending order.
    pub(crate) wanted: &'a [usize],
    /// Whether nobody waits for them any more.
    pub(crate) is_over: &'a dyn Fn() -> bool,
}

impl<B: Backend> Pool<B> {
    pub(crate) fn new(upload: Shared<B>) -> Self {
        let memory = Memory::new(upload.clone());
        let (here, host, coming) = (Recent::default(), Recent::default(), VecDeque::new());
        Self { upload, shape: Shape::default(), memory, here, host, coming, clock: Clock::default() }
    }

    /// Lets go of what there is no more room for, and of experts of other layers than `of_layer` names.
    pub(crate) fn shrink(&mut self, shape: &Shape, of_layer: impl Fn(usize) -> bool) -> Result<()> {
        self.coming.clear();
        let stays = self.memory.suits(shape);
        self.here.retain(|(layer, _)| stays && of_layer(layer));
        self.host.retain(|(layer, _)| stays && of_layer(layer));
        while self.here.len() > shape.kept
            && let Some(key) = self.here.oldest(|_| true)
        {
            self.here.remove(key);
        }
        while self.host.len() > shape.host_kept
            && let Some(key) = self.host.oldest(|_| true)
        {
            self.host.remove(key);
        }
        self.memory.free_host();
        match stays {
            true => self.memory.set_devices(self.devices(shape).min(self.devices(&self.shape)))?,
            false => self.memory.resize(shape),
        }
        self.shape = *shape;
        Ok(())
    }

    /// Makes device memory as it has been told that there is room.
    pub(crate) fn grow(&mut self) -> Result<()> {
        self.memory.set_devices(self.devices(&self.shape))
    }

    fn devices(&self, shape: &Shape) -> usize {
        if self.upload.has_own_memory() { shape.kept } else { 0 }
    }

    /// Runs `each` with every expert that is wanted, in their order, whether they were here or had to come.
    ///
    /// In one order always, so that sums are equal to the bit wherever experts were.
    pub(crate) fn call(
        &mut self,
        call: &Call<'_, B>,
        stats: &mut PassStats,
        mut each: impl FnMut(usize, &dyn Expert<B>),
    ) -> Result<()> {
        let result = self.run(call, stats, &mut each);
        self.coming.clear();
        result
    }

    fn run(
        &mut self,
        call: &Call<'_, B>,
        stats: &mut PassStats,
        each: &mut dyn FnMut(usize, &dyn Expert<B>),
    ) -> Result<()> {
        // What is here and wanted must not go before it was used.
        for expert in call.wanted {
            let is_here = self.here.get((call.layer, *expert)).is_some();
            stats.experts_resident += usize::from(is_here);
        }
        stats.experts += call.wanted.len();
        let mut asked = 0;
        for (i, expert) in call.wanted.iter().enumerate() {
            let last = if call.transfer == Transfer::Sync { i + 1 } else { call.wanted.len() };
            while asked < last && self.ask(call, asked, i)? {
                asked += 1;
            }
            self.upload_ahead(call)?;
            let key = (call.layer, *expert);
            if !self.here.contains(key) {
                let ready = self.finish(call, key, stats)?;
                self.here.insert(key, ready);
            }
            each(*expert, self.here.get(key).ok_or(Error::ReaderStopped)?.expert.as_ref());
        }
        Ok(())
    }

    /// Sees to it that the expert at `index` of those that are wanted comes, if there is room for it while those from
    /// `at` on are still to be used; for that at `at` itself room is made.
    fn ask(&mut self, call: &Call<'_, B>, index: usize, at: usize) -> Result<bool> {
        let key = (call.layer, call.wanted[index]);
        if self.here.contains(key) || self.coming.iter().any(|(coming, _)| *coming == key) {
            return Ok(true);
        }
        let must = index == at;
        if self.coming.len() >= self.shape.ahead.max(1) || !self.make_room(call, at, must) {
            return Ok(false);
        }
        let kept = self.host.get(key).cloned();
        let coming = match kept {
            Some(bytes) => Coming::There(bytes, Work::default()),
            None if !self.make_host_room() => return Ok(false),
            None => {
                let (number, unit) = (call.number + key.1, &call.units[key.1]);
                Coming::Reading(Fetch::start(call.readers, number, unit, self.memory.host()?)?)
            }
        };
        self.coming.push_back((key, coming));
        Ok(true)
    }

    /// Makes sure that one more expert can stay where it is computed with.
    fn make_room(&mut self, call: &Call<'_, B>, at: usize, must: bool) -> bool {
        if self.here.len() + self.coming.len() < self.shape.kept.max(1) {
            return true;
        }
        let wanted = &call.wanted[at..];
        let is_wanted = |(layer, expert): Key| layer == call.layer && wanted.binary_search(&expert).is_ok();
        let goes = self.here.oldest(|key| !is_wanted(key));
        // If all that is here is wanted later, the last of it has to come again.
        let last = || wanted.iter().rev().map(|expert| (call.layer, *expert)).find(|key| self.here.contains(*key));
        match goes.or_else(|| last().filter(|_| must)) {
            Some(key) => self.here.remove(key).is_some(),
            None => false,
        }
    }

    /// Makes sure that one more expert can stay in host memory, where a device has its own.
    fn make_host_room(&mut self) -> bool {
        if !self.upload.has_own_memory() {
            return true;
        }
        let reading = self.coming.iter().filter(|(_, coming)| matches!(coming, Coming::Reading(_))).count();
        if self.host.len() + reading < self.shape.host_kept.max(1) {
            return true;
        }
        let coming = |key: Key| self.coming.iter().any(|(coming, _)| *coming == key);
        match self.host.oldest(|key| !coming(key)) {
            Some(key) => self.host.remove(key).is_some(),
            None => false,
        }
    }

    /// Begins to upload what has been read meanwhile.
    fn upload_ahead(&mut self, call: &Call<'_, B>) -> Result<()> {
        if !self.upload.has_own_memory() || call.transfer != Transfer::Async {
            return Ok(());
        }
        for i in 0..self.coming.len() {
            let (_, coming) = &mut self.coming[i];
            let there = match coming {
                Coming::Reading(fetch) => fetch.is_complete()?,
                Coming::There(..) => true,
                Coming::Uploading(..) => false,
            };
            if there && let Some((key, coming)) = self.coming.remove(i) {
                let coming = self.begin_upload(call, key, coming)?;
                self.coming.insert(i, (key, coming));
            }
        }
        Ok(())
    }

    /// The next step of an expert that is being read or has been, on a device with memory of its own.
    fn begin_upload(&mut self, call: &Call<'_, B>, key: Key, coming: Coming) -> Result<Coming> {
        let (bytes, read) = match coming {
            Coming::Uploading(..) => return Ok(coming),
            Coming::There(bytes, read) => (bytes, read),
            Coming::Reading(fetch) => {
                let (memory, read) = fetch.wait(call.is_over)?;
                let bytes = memory.freeze();
                self.host.insert(key, bytes.clone());
                (bytes, read)
            }
        };
        let slot = Arc::new(self.memory.device()?);
        let segments: Vec<_> = call.units[key.1].segments(0..bytes.len()).collect();
        Ok(Coming::Uploading(self.upload.copy(bytes, &slot, &segments)?, slot, read))
    }

    /// Waits for an expert that has been asked for, and makes a module of it.
    fn finish(&mut self, call: &Call<'_, B>, key: Key, stats: &mut PassStats) -> Result<Ready<B>> {
        let started = Instant::now();
        let at = self.coming.iter().position(|(coming, _)| *coming == key);
        let (_, coming) = at.and_then(|at| self.coming.remove(at)).ok_or(Error::ReaderStopped)?;
        let order = Order { unit: call.number + key.1, tier: Tier::Device };
        let unit = &call.units[key.1];
        let arrived = match self.upload.has_own_memory() {
            true => {
                let Coming::Uploading(copy, slot, read) = self.begin_upload(call, key, coming)? else {
                    return Err(Error::ReaderStopped);
                };
                let (begun, mut upload) = (copy.start(), Work { bytes: unit.bytes(), ..Work::default() });
                copy.wait()?;
                upload.add((begun, Instant::now()), &self.clock);
                Arrived { order, host: Bytes::new(), device: Some(slot), read, upload }
            }
            false => {
                let Coming::Reading(fetch) = coming else { return Err(Error::ReaderStopped) };
                let (memory, read) = fetch.wait(call.is_over)?;
                Arrived { order, host: memory.freeze(), device: None, read, upload: Work::default() }
            }
        };
        let there = Instant::now();
        stats.arrived((started, there), &arrived);
        stats.experts_read += usize::from(arrived.read.bytes > 0);
        let record = Record { unit, arrived: &arrived, upload: self.upload.as_ref() };
        let expert = decoder::load_expert(call.experts, &record, call.device)?;
        stats.convert_seconds += there.elapsed().as_secs_f64();
        // Tensors made of host memory hold on to it themselves, or have copied it.
        Ok(Ready { expert, _memory: arrived.device })
    }
}
