use super::experts::ExpertPool;
use super::{Tier, UnitSize};
use crate::error::{Error, Least, Result};
use crate::unit::CHUNK;

/// Memory that one device may take, in bytes; `None` asks for the least that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceBudget {
    /// Memory that it computes in: weights, KV cache and activations together.
    pub device: Option<u64>,
    /// Host memory for weights that are uploaded in each pass, where the device has memory of its own.
    pub host: Option<u64>,
    /// Whether the device has memory of its own.
    pub has_own_memory: bool,
}

/// What one device holds, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct DevicePlan {
    /// The units that it computes, in the order of a pass.
    pub units: Vec<usize>,
    /// Slots that its streamed units share.
    pub slots: usize,
    /// Bytes of one slot.
    pub slot_len: u64,
    /// Keys and values of its units.
    pub kv_cache: u64,
    /// Hidden states and what one layer makes of them.
    pub activations: u64,
    /// All that it takes of the memory it computes in, slots, KV cache and activations included.
    pub bytes: u64,
    /// Experts that stay, those that were used last, of all that its layers have.
    pub experts: usize,
    /// Slots that experts pass through where tensors are made of a slot's bytes; none where they stay in it.
    pub expert_slots: usize,
    /// All experts that its layers have.
    pub all_experts: usize,
    /// Bytes of the slot of one expert.
    pub expert_slot_len: u64,
    /// Experts that stay in host memory, those that were used last, if it has memory of its own.
    pub host_experts: usize,
    /// Host memory that units are read into on their way to a device with memory of its own.
    pub ring: u64,
    /// All host memory that it takes, if it has memory of its own.
    pub host_bytes: u64,
}

/// Host memory that keeps disk and link busy: some chunks are being read, some uploaded.
const RING: u64 = 32 * CHUNK as u64;

/// The least: one chunk is read while one is uploaded.
const LEAST_RING: u64 = 2 * CHUNK as u64;

/// The same of experts, which are read as wholes.
const LEAST_HOST_EXPERTS: usize = 2;

impl DevicePlan {
    /// Fills the budget with units that stay; two slots (one if no more fit) serve the rest, which are spread evenly
    /// among the resident ones so that reading never pauses. What is left then is for experts: a unit is needed in every
    /// pass, an expert only where it is chosen. Gives the plan and the tier of each of its units.
    pub(super) fn new(
        of: Vec<usize>,
        all: &[UnitSize],
        activations: u64,
        budget: &DeviceBudget,
    ) -> Result<(Self, Vec<Tier>)> {
        let units: Vec<_> = of.iter().map(|unit| all[*unit]).collect();
        let activations = if of.is_empty() { 0 } else { activations };
        let (mut plan, mut tiers) = Self::fill(&units, activations, budget.device)?;
        if budget.has_own_memory && !units.is_empty() {
            plan.fill_host(&units, &mut tiers, budget.host)?;
        }
        plan.units = of;
        Ok((plan, tiers))
    }

    /// The plan in which all units stay.
    pub(super) fn resident(units: &[UnitSize], activations: u64) -> Self {
        let experts = ExpertPool::of(units).all;
        Self::keeping(units, activations, (0, experts), &vec![Tier::Device; units.len()])
    }

    fn fill(units: &[UnitSize], activations: u64, budget: Option<u64>) -> Result<(Self, Vec<Tier>)> {
        let streamed = vec![Tier::Disk; units.len()];
        let pool = ExpertPool::of(units);
        let streaming = |slots| Self::keeping(units, activations, (slots, pool.at_most(slots)), &streamed);
        let Some(budget) = budget else { return Ok((streaming(1), streamed)) };
        let all = Self::resident(units, activations);
        if all.bytes <= budget {
            return Ok((all, vec![Tier::Device; units.len()]));
        }
        let staying = vec![Tier::Device; units.len()];
        let of_experts_only = [2, 1].map(|kept| Self::keeping(units, activations, (0, pool.at_most(kept)), &staying));
        if let Some(plan) = of_experts_only.into_iter().find(|plan| pool.all > 0 && plan.bytes <= budget) {
            return Ok((plan.with_experts(units, &pool, budget, &staying), staying));
        }
        let Some(base) = [2, 1].map(streaming).into_iter().find(|plan| plan.bytes <= budget) else {
            let least = streaming(1);
            let expert = pool.bytes(least.experts);
            let beside = least.kv_cache.saturating_add(activations).saturating_add(expert);
            let slot = least.bytes - beside.min(least.bytes);
            return Err(Error::Budget { budget, least: Least { slot, expert, kv_cache: least.kv_cache, activations } });
        };
        let (mut tiers, mut best) = (streamed, base);
        for unit in spread(units.len()) {
            tiers[unit] = Tier::Device;
            let plan = Self::keeping(units, activations, (best.slots, best.experts), &tiers);
            match plan.bytes <= budget {
                true => best = plan,
                false => tiers[unit] = Tier::Disk,
            }
        }
        Ok((best.with_experts(units, &pool, budget, &tiers), tiers))
    }

    /// The same with as many experts as the budget holds.
    fn with_experts(self, units: &[UnitSize], pool: &ExpertPool, budget: u64, tiers: &[Tier]) -> Self {
        let experts = pool.fitting(budget - (self.bytes - pool.bytes(self.experts)));
        Self::keeping(units, self.activations, (self.slots, experts), tiers)
    }

    /// Fills a budget of host memory with streamed units that are then uploaded from there; room for reading comes
    /// first.
    fn fill_host(&mut self, units: &[UnitSize], tiers: &mut [Tier], budget: Option<u64>) -> Result<()> {
        let pool = ExpertPool::of(units);
        self.host_experts = pool.at_most(LEAST_HOST_EXPERTS);
        let experts = pool.host * self.host_experts as u64;
        let least = LEAST_RING + experts;
        let budget = budget.unwrap_or(least);
        if budget < least {
            return Err(Error::HostBudget { budget, least });
        }
        self.ring = (budget - experts).min(RING) / CHUNK as u64 * CHUNK as u64;
        self.host_bytes = self.ring + experts;
        for unit in spread(units.len()) {
            let fits = self.host_bytes + units[unit].host <= budget;
            if fits && tiers[unit] == Tier::Disk {
                self.host_bytes += units[unit].host;
                tiers[unit] = Tier::Host;
            }
        }
        if self.experts < self.all_experts && pool.host > 0 {
            let more = ((budget - self.host_bytes) / pool.host).min((pool.all - self.host_experts) as u64);
            self.host_experts += more as usize;
            self.host_bytes += more * pool.host;
        }
        Ok(())
    }

    /// The plan in which the units of the device tier and so many experts stay, and the other units share `slots`.
    fn keeping(units: &[UnitSize], activations: u64, (slots, experts): (usize, usize), tiers: &[Tier]) -> Self {
        // Where tensors are made of a slot's bytes, resident units pass through a slot too.
        let copied = units.iter().any(|unit| unit.tensors > 0);
        let slots = if copied { slots.max(1) } else { slots };
        let slot_len = match slots {
            0 => 0,
            _ => units.iter().map(|unit| unit.slot).max().unwrap_or(0),
        };
        let of = |tier| units.iter().zip(tiers).filter(move |(_, at)| **at == tier).map(|(unit, _)| unit);
        let passing = of(Tier::Disk).map(|unit| unit.tensors).max().unwrap_or(0);
        // Backends that copy weights to make tensors of them copy them once more to multiply.
        let passing = passing + units.iter().map(|unit| unit.tensors).max().unwrap_or(0);
        let resident: u64 = of(Tier::Device).map(UnitSize::resident).sum();
        let kv_cache = units.iter().fold(0u64, |sum, unit| sum.saturating_add(unit.kv_cache));
        let weights = resident + passing + slots as u64 * slot_len;
        let pool = ExpertPool::of(units);
        let weights = weights.saturating_add(pool.bytes(experts));
        let bytes = kv_cache.saturating_add(activations).saturating_add(weights);
        let (expert_slots, all_experts, expert_slot_len) = (pool.passing(experts), pool.all, pool.slot);
        Self {
            slots,
            slot_len,
            experts,
            expert_slots,
            all_experts,
            expert_slot_len,
            kv_cache,
            activations,
            bytes,
            ..Self::default()
        }
    }
}

/// All units, in an order whose every beginning is spread evenly over a pass (van der Corput's): a smaller budget then
/// keeps some of what a larger one keeps.
fn spread(units: usize) -> impl Iterator<Item = usize> {
    let bits = units.next_power_of_two().trailing_zeros();
    let reversed = move |i: usize| i.reverse_bits().checked_shr(usize::BITS - bits).unwrap_or(0);
    (0..1usize << bits).map(reversed).filter(move |unit| *unit < units)
}
