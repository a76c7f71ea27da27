//! Which units stay and which stream: a pure function of sizes and a budget.

use crate::error::{Error, Least, Result};

/// What a unit takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitSize {
    /// The slot that its bytes are read into.
    pub slot: u64,
    /// What its tensors take beside the slot; nothing where they use the slot's bytes as they lie.
    pub tensors: u64,
}

impl UnitSize {
    /// What it takes to keep: its tensors, or the slot where they lie in it.
    fn resident(&self) -> u64 {
        match self.tensors {
            0 => self.slot,
            tensors => tensors,
        }
    }
}

/// Memory that a pass needs beside weights, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Keys and values of all layers.
    pub kv_cache: u64,
    /// Hidden states and what one layer makes of them.
    pub activations: u64,
}

/// Where a unit lives between passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tier {
    /// Where it is computed with: it is resident.
    Device,
    /// In page-locked host memory, uploaded in each pass.
    Host,
    /// In its file, read in each pass.
    Disk,
}

/// Which units stay in memory and how the others stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Unit by unit, where it lives.
    pub tiers: Vec<Tier>,
    /// Slots that streamed units share.
    pub slots: usize,
    /// Bytes of one slot.
    pub slot_len: u64,
    /// Bytes that all of it takes on the device, KV cache and activations included.
    pub bytes: u64,
    /// Slots in host memory, for a device with memory of its own.
    pub host_slots: usize,
    /// Bytes that all of it takes in host memory, for a device with memory of its own.
    pub host_bytes: u64,
}

impl Plan {
    /// Fills the budget with units that stay; two slots (one if no more fit) serve the rest, which are spread evenly
    /// among the resident ones so that reading never pauses. Without a budget, the least that runs.
    ///
    /// ```
    /// use leveret::{Needs, Plan, UnitSize};
    ///
    /// let units = [UnitSize { slot: 100, tensors: 0 }; 4];
    /// let plan = Plan::new(&units, Needs::default(), Some(300)).unwrap();
    /// assert_eq!((plan.slots, plan.resident()), (2, 1));
    /// ```
    pub fn new(units: &[UnitSize], needs: Needs, budget: Option<u64>) -> Result<Self> {
        let fixed = needs.kv_cache.saturating_add(needs.activations);
        let streaming = |slots| Self::keeping(units, fixed, slots, &[]);
        let Some(budget) = budget else { return Ok(streaming(1)) };
        let everything: Vec<_> = (0..units.len()).collect();
        let all = Self::keeping(units, fixed, 0, &everything);
        if all.bytes <= budget {
            return Ok(all);
        }
        let Some(base) = [2, 1].map(streaming).into_iter().find(|plan| plan.bytes <= budget) else {
            let slot = Self::keeping(units, 0, 1, &[]).bytes;
            let least = Least { slot, kv_cache: needs.kv_cache, activations: needs.activations };
            return Err(Error::Budget { budget, least });
        };
        let (mut kept, mut best) = (Vec::new(), base);
        for unit in spread(units.len()) {
            kept.push(unit);
            let plan = Self::keeping(units, fixed, best.slots, &kept);
            match plan.bytes <= budget {
                true => best = plan,
                false => _ = kept.pop(),
            }
        }
        Ok(best)
    }

    /// Fills a budget of host memory with streamed units that are then uploaded from there, for a device with memory
    /// of its own; slots for reading come first.
    pub fn with_host(mut self, units: &[UnitSize], budget: Option<u64>) -> Result<Self> {
        let slot = units.iter().map(|unit| unit.slot).max().unwrap_or(0);
        let budget = budget.unwrap_or(slot);
        if budget < slot {
            return Err(Error::Budget { budget, least: Least { slot, kv_cache: 0, activations: 0 } });
        }
        self.host_slots = ((budget / slot.max(1)) as usize).min(HOST_SLOTS);
        self.host_bytes = self.host_slots as u64 * slot;
        for unit in spread(units.len()) {
            let fits = self.host_bytes + units[unit].slot <= budget;
            if fits && self.tiers[unit] == Tier::Disk {
                self.host_bytes += units[unit].slot;
                self.tiers[unit] = Tier::Host;
            }
        }
        Ok(self)
    }

    /// Units that stay on the device.
    pub fn resident(&self) -> usize {
        self.tiers.iter().filter(|tier| **tier == Tier::Device).count()
    }

    /// Whether every unit stays on the device.
    pub fn is_resident(&self) -> bool {
        self.resident() == self.tiers.len()
    }

    /// The plan in which `kept` stay and the others share `slots`.
    fn keeping(units: &[UnitSize], fixed: u64, slots: usize, kept: &[usize]) -> Self {
        let mut tiers = vec![Tier::Disk; units.len()];
        kept.iter().for_each(|unit| tiers[*unit] = Tier::Device);
        // Where tensors are made of a slot's bytes, resident units pass through a slot too.
        let copied = units.iter().any(|unit| unit.tensors > 0);
        let slots = if copied { slots.max(1) } else { slots };
        let slot_len = match slots {
            0 => 0,
            _ => units.iter().map(|unit| unit.slot).max().unwrap_or(0),
        };
        let streamed = units.iter().zip(&tiers).filter(|(_, tier)| **tier == Tier::Disk);
        let passing = streamed.map(|(unit, _)| unit.tensors).max().unwrap_or(0);
        // Backends that copy weights to make tensors of them copy them once more to multiply.
        let passing = passing + units.iter().map(|unit| unit.tensors).max().unwrap_or(0);
        let resident: u64 = kept.iter().map(|unit| units[*unit].resident()).sum();
        let bytes = fixed.saturating_add(resident + passing + slots as u64 * slot_len);
        Self { tiers, slots, slot_len, bytes, host_slots: slots, host_bytes: 0 }
    }
}

/// Host slots that keep disk and link busy: one is read into while one is uploaded from, and one waits.
const HOST_SLOTS: usize = 3;

/// All units, in an order whose every beginning is spread evenly over a pass (van der Corput's): a smaller budget then
/// keeps some of what a larger one keeps.
fn spread(units: usize) -> impl Iterator<Item = usize> {
    let bits = units.next_power_of_two().trailing_zeros();
    let reversed = move |i: usize| i.reverse_bits().checked_shr(usize::BITS - bits).unwrap_or(0);
    (0..1usize << bits).map(reversed).filter(move |unit| *unit < units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIT: UnitSize = UnitSize { slot: 100, tensors: 0 };

    fn plan(units: usize, budget: u64) -> Result<Plan> {
        Plan::new(&[UNIT; 8][..units], Needs { kv_cache: 10, activations: 5 }, Some(budget))
    }

    #[test]
    fn a_model_that_fits_is_resident() {
        let plan = plan(4, 415).unwrap();
        assert!(plan.is_resident());
        assert_eq!((plan.slots, plan.bytes), (0, 415));
    }

    #[test]
    fn streamed_units_are_spread_evenly() {
        let plan = plan(8, 215 + 400).unwrap();
        let resident: Vec<_> = (0..8).filter(|i| plan.tiers[*i] == Tier::Device).collect();
        assert_eq!(resident, [0, 2, 4, 6]);
    }

    /// A smaller budget keeps a part of what a larger one keeps, so that plans do not throw each other's units out.
    #[test]
    fn what_stays_is_nested() {
        let resident = |budget| {
            let tiers = plan(8, budget).unwrap().tiers;
            (0..8).filter(|i| tiers[*i] == Tier::Device).collect::<Vec<_>>()
        };
        for budget in (215..815).step_by(100) {
            let (fewer, more) = (resident(budget), resident(budget + 100));
            assert!(fewer.iter().all(|unit| more.contains(unit)), "{fewer:?} {more:?}");
        }
    }

    #[test]
    fn one_slot_is_enough_and_less_is_an_error() {
        assert_eq!(plan(4, 115).unwrap().slots, 1);
        let error = plan(4, 114).unwrap_err().to_string();
        assert!(error.contains("the least is 115 bytes (largest unit 100 bytes, KV cache 10 bytes"), "{error}");
    }

    /// Half of eight units on the device, two of the others in host memory beside three slots.
    #[test]
    fn tiers_fill_one_after_another() {
        let plan = plan(8, 215 + 400).unwrap().with_host(&[UNIT; 8], Some(550)).unwrap();
        let at = |tier| (0..8).filter(|i| plan.tiers[*i] == tier).collect::<Vec<_>>();
        assert_eq!((at(Tier::Device), at(Tier::Host), at(Tier::Disk)), (vec![0, 2, 4, 6], vec![1, 5], vec![3, 7]));
        assert_eq!((plan.host_slots, plan.host_bytes), (3, 500));
        assert!(self::plan(8, 615).unwrap().with_host(&[UNIT; 8], Some(99)).is_err());
    }

    proptest! {
        #[test]
        fn the_budget_holds(
            sizes in prop::collection::vec((1u64..1000, prop_oneof![Just(0u64), 1u64..2000]), 1..40),
            kv_cache in 0u64..500, activations in 0u64..500, budget in 0u64..20_000,
        ) {
            let copied = sizes[0].1 > 0;
            let units: Vec<_> = sizes
                .iter()
                .map(|&(slot, tensors)| UnitSize { slot, tensors: if copied { tensors.max(1) } else { 0 } })
                .collect();
            let needs = Needs { kv_cache, activations };
            let least = Plan::new(&units, needs, None).unwrap();
            match Plan::new(&units, needs, Some(budget)) {
                Ok(plan) => {
                    prop_assert!(plan.bytes <= budget);
                    prop_assert!(plan.is_resident() || plan.slots > 0);
                }
                Err(_) => prop_assert!(least.bytes > budget),
            }
        }
    }
}
