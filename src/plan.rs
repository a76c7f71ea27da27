//! Which units stay and which stream: a pure function of sizes and a budget.

use crate::error::{Error, Least, Result};
use crate::memory::{self, Budget};

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

/// Which units stay in memory and how the others stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Unit by unit, whether it stays.
    pub resident: Vec<bool>,
    /// Slots that streamed units share.
    pub slots: usize,
    /// Bytes of one slot.
    pub slot_len: u64,
    /// Bytes that all of it takes, KV cache and activations included.
    pub bytes: u64,
}

impl Plan {
    /// Fills the budget with units that stay; two slots (one if no more fit) serve the rest, which are spread evenly
    /// among the resident ones so that reading never pauses.
    ///
    /// ```
    /// use leveret::{Budget, Needs, Plan, UnitSize};
    ///
    /// let units = [UnitSize { slot: 100, tensors: 0 }; 4];
    /// let plan = Plan::new(&units, Needs::default(), Budget::Bytes(300)).unwrap();
    /// assert_eq!((plan.slots, plan.resident), (2, vec![true, false, false, false]));
    /// ```
    pub fn new(units: &[UnitSize], needs: Needs, budget: Budget) -> Result<Self> {
        let fixed = needs.kv_cache + needs.activations;
        let budget = match budget {
            Budget::Min => return Ok(Self::streaming(units, fixed, 1)),
            Budget::Bytes(bytes) => bytes,
            Budget::Free => memory::free()?,
        };
        let streaming = |slots| Some(Self::streaming(units, fixed, slots)).filter(|plan| plan.bytes <= budget);
        let all = Self::keeping(units, fixed, 0, vec![true; units.len()]);
        if all.bytes <= budget {
            return Ok(all);
        }
        let Some(base) = streaming(2).or_else(|| streaming(1)) else {
            let slot = Self::streaming(units, 0, 1).bytes;
            let least = Least { slot, kv_cache: needs.kv_cache, activations: needs.activations };
            return Err(Error::Budget { budget, least });
        };
        let kept = |count| Self::keeping(units, fixed, base.slots, spread(units.len(), count));
        let best = (1..units.len()).rev().map(kept).find(|plan| plan.bytes <= budget);
        Ok(best.unwrap_or(base))
    }

    /// Whether every unit stays.
    pub fn is_resident(&self) -> bool {
        self.resident.iter().all(|resident| *resident)
    }

    fn streaming(units: &[UnitSize], fixed: u64, slots: usize) -> Self {
        Self::keeping(units, fixed, slots, vec![false; units.len()])
    }

    fn keeping(units: &[UnitSize], fixed: u64, slots: usize, resident: Vec<bool>) -> Self {
        // Where tensors are made of a slot's bytes, resident units pass through a slot too.
        let copied = units.iter().any(|unit| unit.tensors > 0);
        let slots = if copied { slots.max(1) } else { slots };
        let streamed = || units.iter().zip(&resident).filter(|(_, resident)| !**resident).map(|(unit, _)| unit);
        let slot_len = match copied {
            true => units.iter().map(|unit| unit.slot).max(),
            false => streamed().map(|unit| unit.slot).max(),
        };
        let slot_len = slot_len.unwrap_or(0);
        let passing = streamed().map(|unit| unit.tensors).max().unwrap_or(0);
        let kept: u64 = units.iter().zip(&resident).filter(|(_, kept)| **kept).map(|(unit, _)| unit.resident()).sum();
        let bytes = fixed + kept + passing + slots as u64 * slot_len;
        Self { resident, slots, slot_len, bytes }
    }
}

/// `count` of `units` places, evenly spaced.
fn spread(units: usize, count: usize) -> Vec<bool> {
    (0..units).map(|i| (i + 1) * count / units > i * count / units).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIT: UnitSize = UnitSize { slot: 100, tensors: 0 };

    fn plan(units: usize, budget: u64) -> Result<Plan> {
        Plan::new(&[UNIT; 8][..units], Needs { kv_cache: 10, activations: 5 }, Budget::Bytes(budget))
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
        assert_eq!(plan.resident, [true, false, true, false, true, false, true, false]);
    }

    #[test]
    fn one_slot_is_enough_and_less_is_an_error() {
        assert_eq!(plan(4, 115).unwrap().slots, 1);
        let error = plan(4, 114).unwrap_err().to_string();
        assert!(error.contains("the least is 115 bytes (largest unit 100 bytes, KV cache 10 bytes"), "{error}");
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
            let least = Plan::new(&units, needs, Budget::Min).unwrap();
            match Plan::new(&units, needs, Budget::Bytes(budget)) {
                Ok(plan) => {
                    prop_assert!(plan.bytes <= budget);
                    prop_assert!(plan.is_resident() || plan.slots > 0);
                }
                Err(_) => prop_assert!(least.bytes > budget),
            }
        }
    }
}
