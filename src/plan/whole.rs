use super::{DeviceBudget, DevicePlan, Tier, UnitSize};
use crate::error::Result;

/// Which unit runs on which device, where it lives between passes, and how much of a prompt is worked off at a time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Unit by unit, where it lives.
    pub tiers: Vec<Tier>,
    /// Device by device, what it computes and what it takes.
    pub devices: Vec<DevicePlan>,
    /// Columns of a pass that a layer computes at a time.
    pub chunk: usize,
}

/// Positions below which a smaller chunk would save next to nothing.
const FEWEST: usize = 32;

impl Plan {
    /// Plans `units` for devices with these budgets, one after another in the order of a pass.
    ///
    /// A model that fits is resident, on as few devices as can hold it, each with a run of its units. One that does not
    /// is dealt out to all devices in turn, so that their links are busy at the same time. `activations` says how much
    /// memory it takes to compute so many columns at a time, of `seq` in `batch` sequences; `most` positions are computed
    /// at a time at most.
    ///
    /// ```
    /// use leveret::{DeviceBudget, Plan, UnitSize};
    ///
    /// let units = [UnitSize { slot: 100, ..UnitSize::default() }; 4];
    /// let budget = DeviceBudget { device: Some(300), ..DeviceBudget::default() };
    /// let plan = Plan::new(&units, (1, 1, 512), |_| 0, &[budget]).unwrap();
    /// assert_eq!((plan.devices[0].slots, plan.resident()), (2, 1));
    /// ```
    pub fn new(
        units: &[UnitSize],
        (batch, seq, most): (usize, usize, usize),
        activations: impl Fn(usize) -> u64,
        budgets: &[DeviceBudget],
    ) -> Result<Self> {
        let chunks = chunks(batch, seq, most);
        let plan = |chunk: usize, budgets: &[DeviceBudget]| Self::with_chunk(units, chunk, activations(chunk), budgets);
        // The least that runs: a smaller chunk needs less for itself, and more for what is kept of each.
        let least: Vec<_> = budgets.iter().map(|budget| DeviceBudget { device: None, ..*budget }).collect();
        let bytes = |chunk: &usize| plan(*chunk, &least).map_or(u64::MAX, |plan| plan.bytes());
        let smallest = chunks.iter().copied().min_by_key(bytes).expect("there is always a chunk to try");
        if budgets.iter().any(|budget| budget.device.is_none()) {
            return plan(smallest, budgets);
        }
        let plans: Vec<_> = chunks.into_iter().filter_map(|chunk| plan(chunk, budgets).ok()).collect();
        let best = plans.iter().find(|plan| plan.is_resident());
        let best = best.or_else(|| plans.iter().find(|plan| plan.leaves_room(budgets)));
        best.cloned().map_or_else(|| plan(smallest, budgets), Ok)
    }

    /// Whether activations leave nearly all memory to weights, and these stream without pauses.
    fn leaves_room(&self, budgets: &[DeviceBudget]) -> bool {
        let roomy = |(device, budget): (&DevicePlan, &DeviceBudget)| {
            let pauses = device.slots == 1 || (device.experts == 1 && device.all_experts > 1);
            !pauses && budget.device.is_none_or(|budget| device.activations <= budget / 8)
        };
        self.devices.iter().zip(budgets).all(roomy)
    }

    fn with_chunk(units: &[UnitSize], chunk: usize, activations: u64, budgets: &[DeviceBudget]) -> Result<Self> {
        let mut tiers = vec![Tier::Disk; units.len()];
        let mut devices = Vec::new();
        for (of, budget) in deal(units, activations, budgets).into_iter().zip(budgets) {
            let (device, of_device) = DevicePlan::new(of, units, activations, budget)?;
            device.units.iter().zip(of_device).for_each(|(unit, tier)| tiers[*unit] = tier);
            devices.push(device);
        }
        Ok(Self { tiers, devices, chunk })
    }

    /// Units that stay where they are computed with.
    pub fn resident(&self) -> usize {
        self.tiers.iter().filter(|tier| **tier == Tier::Device).count()
    }

    /// Whether every unit stays where it is computed with, experts included.
    pub fn is_resident(&self) -> bool {
        let keeps_all = |device: &DevicePlan| device.experts == device.all_experts;
        self.resident() == self.tiers.len() && self.devices.iter().all(keeps_all)
    }

    /// Bytes of all memories that devices compute in.
    pub fn bytes(&self) -> u64 {
        self.devices.iter().map(|device| device.bytes).sum()
    }

    /// The device that computes `unit`.
    pub(crate) fn device_of(&self, unit: usize) -> usize {
        self.devices.iter().position(|device| device.units.contains(&unit)).unwrap_or(0)
    }
}

/// Columns to compute at a time, from the most down to the fewest that are worth trying.
fn chunks(batch: usize, seq: usize, most: usize) -> Vec<usize> {
    let smaller = |chunk: &usize| (chunk * batch > FEWEST && *chunk > 1).then_some(chunk / 2);
    let chunks = std::iter::successors(Some((most / batch.max(1)).max(1)), smaller);
    let mut chunks: Vec<_> = chunks.map(|chunk| chunk.min(seq.max(1))).collect();
    chunks.dedup();
    chunks
}

/// The units of each device: runs that fit, or else in turn.
fn deal(units: &[UnitSize], activations: u64, budgets: &[DeviceBudget]) -> Vec<Vec<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for budget in budgets {
        let fits = |end: &usize| {
            let needed = DevicePlan::resident(&units[start..*end], activations).bytes;
            budget.device.is_some_and(|budget| needed <= budget)
        };
        let end = (start + 1..=units.len()).take_while(fits).last().unwrap_or(start);
        runs.push((start..end).collect());
        start = end;
    }
    if start == units.len() {
        return runs;
    }
    let turn = |device| (device..units.len()).step_by(budgets.len()).collect();
    (0..budgets.len()).map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ExpertSizes;
    use crate::unit::CHUNK;
    use proptest::prelude::*;

    const UNIT: UnitSize = UnitSize { slot: 100, tensors: 0, host: 110, kv_cache: 0, experts: NO_EXPERTS };
    const NO_EXPERTS: ExpertSizes = ExpertSizes { count: 0, chosen: 0, slot: 0, tensors: 0, host: 0 };
    const MIB4: u64 = CHUNK as u64;

    fn of(units: usize, budgets: &[DeviceBudget]) -> Result<Plan> {
        let mut units = [UNIT; 8][..units].to_vec();
        units[0].kv_cache = 10;
        Plan::new(&units, (1, 4, 512), |_| 5, budgets)
    }

    fn budget(device: u64) -> DeviceBudget {
        DeviceBudget { device: Some(device), ..DeviceBudget::default() }
    }

    fn plan(units: usize, device: u64) -> Result<Plan> {
        of(units, &[budget(device)])
    }

    fn at(plan: &Plan, tier: Tier) -> Vec<usize> {
        (0..plan.tiers.len()).filter(|i| plan.tiers[*i] == tier).collect()
    }

    #[test]
    fn a_model_that_fits_is_resident() {
        let plan = plan(4, 415).unwrap();
        assert!(plan.is_resident());
        assert_eq!((plan.devices[0].slots, plan.bytes()), (0, 415));
    }

    #[test]
    fn streamed_units_are_spread_evenly() {
        assert_eq!(at(&plan(8, 215 + 400).unwrap(), Tier::Device), [0, 2, 4, 6]);
    }

    /// A smaller budget keeps a part of what a larger one keeps, so that plans do not throw each other's units out.
    #[test]
    fn what_stays_is_nested() {
        for budget in (215..815).step_by(100) {
            let [fewer, more] = [0, 100].map(|more| at(&plan(8, budget + more).unwrap(), Tier::Device));
            assert!(fewer.iter().all(|unit| more.contains(unit)), "{fewer:?} {more:?}");
        }
    }

    #[test]
    fn one_slot_is_enough_and_less_is_an_error() {
        assert_eq!(plan(4, 115).unwrap().devices[0].slots, 1);
        let error = plan(4, 114).unwrap_err().to_string();
        assert!(error.contains("the least is 115 bytes (largest unit 100 bytes, KV cache 10 bytes"), "{error}");
    }

    /// Half of eight units on the device, two of the others in host memory beside the ring.
    #[test]
    fn tiers_fill_one_after_another() {
        let own = |host| DeviceBudget { device: Some(215 + 400), host: Some(host), has_own_memory: true };
        let plan = of(8, &[own(3 * MIB4 + 109)]).unwrap();
        let tiers = [Tier::Device, Tier::Host, Tier::Disk].map(|tier| at(&plan, tier));
        assert_eq!(tiers, [vec![0, 2, 4, 6], vec![], vec![1, 3, 5, 7]], "the ring has what it can use first");
        let plan = of(8, &[own(32 * MIB4 + 220)]).unwrap();
        let tiers = [Tier::Device, Tier::Host, Tier::Disk].map(|tier| at(&plan, tier));
        assert_eq!(tiers, [vec![0, 2, 4, 6], vec![1, 5], vec![3, 7]]);
        assert_eq!((plan.devices[0].ring, plan.devices[0].host_bytes), (32 * MIB4, 32 * MIB4 + 220));
        assert!(of(8, &[own(MIB4)]).unwrap_err().to_string().contains("the least is 8.0 MiB"));
    }

    #[test]
    fn devices_share_a_model_in_runs_if_it_fits_and_else_in_turn() {
        let units = |plan: &Plan| plan.devices.iter().map(|device| device.units.clone()).collect::<Vec<_>>();
        let plan = of(4, &[budget(315), budget(205)]).unwrap();
        assert!(plan.is_resident());
        assert_eq!(units(&plan), [vec![0, 1, 2], vec![3]]);
        let plan = of(5, &[budget(315), budget(204)]).unwrap();
        assert_eq!(units(&plan), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(plan.device_of(3), 1);
        assert_eq!(at(&plan, Tier::Device), [0, 2, 4], "the first device can hold all that it has");
        assert_eq!(units(&of(4, &[budget(500), budget(500)]).unwrap()), [vec![0, 1, 2, 3], vec![]]);
    }

    /// Experts get what layers leave, and one at least.
    #[test]
    fn experts_come_after_layers() {
        let experts = ExpertSizes { count: 4, chosen: 2, slot: 30, tensors: 0, host: 30 };
        let units = [UnitSize { experts, ..UNIT }, UNIT, UnitSize { experts, ..UNIT }];
        let plan =
            |device| Plan::new(&units, (1, 1, 512), |_| 0, &[DeviceBudget { device: Some(device), ..budget(0) }]);
        let shape = |device| {
            let plan = plan(device).unwrap();
            (plan.devices[0].slots, plan.resident(), plan.devices[0].experts)
        };
        assert_eq!(shape(130), (1, 0, 1));
        assert_eq!(shape(260), (2, 0, 2));
        assert_eq!(shape(329), (2, 0, 4));
        assert_eq!(shape(330), (0, 3, 1));
        assert_eq!(shape(530), (0, 3, 7));
        assert_eq!(shape(540), (0, 3, 8));
        assert!(!plan(530).unwrap().is_resident() && plan(540).unwrap().is_resident());
        let error = plan(129).unwrap_err().to_string();
        assert!(error.contains("(largest unit 100 bytes, an expert 30 bytes, KV cache"), "{error}");
    }

    /// What a device with memory of its own cannot keep of experts is kept in host memory.
    #[test]
    fn experts_fill_host_memory_last() {
        let experts = ExpertSizes { count: 8, chosen: 2, slot: 30, tensors: 0, host: 40 };
        let own = |host| DeviceBudget { device: Some(330), host: Some(host), has_own_memory: true };
        let plan = |host| Plan::new(&[UnitSize { experts, ..UNIT }; 2], (1, 1, 512), |_| 0, &[own(host)]);
        let of = |host| plan(host).map(|plan| (plan.devices[0].host_experts, plan.devices[0].host_bytes));
        assert_eq!(of(32 * MIB4 + 80).unwrap(), (2, 32 * MIB4 + 80));
        assert_eq!(of(32 * MIB4 + 80 + 130).unwrap().0, 2 + 3);
        assert!(of(2 * MIB4 + 79).is_err());
    }

    /// Small budgets make chunks small before they make slots few.
    #[test]
    fn chunks_fit_the_budget() {
        let chunk = |device, batch, seq| {
            let activations = |columns: usize| (columns * batch) as u64;
            Plan::new(&[UNIT; 4], (batch, seq, 512), activations, &[device]).map(|plan| plan.chunk)
        };
        assert_eq!(chunk(budget(2000), 1, 4000).unwrap(), 512);
        assert_eq!(chunk(budget(2000), 1, 9).unwrap(), 9);
        assert_eq!(chunk(budget(2000), 8, 4000).unwrap(), 64);
        assert_eq!(chunk(budget(9000), 4096, 10).unwrap(), 1);
        assert_eq!(chunk(budget(600), 1, 4000).unwrap(), 128);
        assert_eq!(chunk(budget(300), 1, 4000).unwrap(), 32);
        assert_eq!(chunk(budget(140), 1, 4000).unwrap(), 32);
        assert_eq!(chunk(DeviceBudget::default(), 1, 4000).unwrap(), 32);
        assert!(chunk(budget(131), 1, 4000).is_err());
    }

    /// What is kept of each chunk may weigh more than a chunk itself.
    #[test]
    fn the_least_is_the_least() {
        let activations = |chunk: usize| (chunk + 100_000 / chunk) as u64;
        let plan = |device| Plan::new(&[UNIT; 4], (1, 4000, 512), activations, &[device]);
        let least = plan(DeviceBudget::default()).unwrap();
        assert_eq!((least.chunk, least.bytes()), (256, 100 + 256 + 390));
        assert_eq!(plan(budget(least.bytes())).unwrap().chunk, 256);
        assert!(plan(budget(least.bytes() - 1)).is_err());
    }

    proptest! {
        #[test]
        fn the_budget_holds(
            sizes in prop::collection::vec((1u64..1000, prop_oneof![Just(0u64), 1u64..2000], 0u64..50, 0usize..9), 1..40),
            activations in 0u64..3, columns in 1usize..2000, devices in prop::collection::vec(0u64..20_000, 1..4),
        ) {
            let copied = sizes[0].1 > 0;
            let units: Vec<_> = sizes
                .iter()
                .map(|&(slot, tensors, kv_cache, count)| {
                    let tensors = if copied { tensors.max(1) } else { 0 };
                    let experts = ExpertSizes { count, chosen: 1, slot: slot / 2 + 1, tensors, host: slot };
                    UnitSize { slot, tensors, host: slot, kv_cache, experts }
                })
                .collect();
            let needs = |chunk: usize| activations * chunk as u64;
            let budgets: Vec<_> = devices.iter().map(|device| budget(*device)).collect();
            match Plan::new(&units, (1, columns, 512), needs, &budgets) {
                Ok(plan) => {
                    let mut all: Vec<_> = plan.devices.iter().flat_map(|device| device.units.clone()).collect();
                    all.sort_unstable();
                    prop_assert_eq!(all, (0..units.len()).collect::<Vec<_>>(), "every unit runs once");
                    for (device, budget) in plan.devices.iter().zip(&devices) {
                        prop_assert!(device.bytes <= *budget);
                        let streams = device.units.iter().any(|unit| plan.tiers[*unit] != Tier::Device);
                        prop_assert!(device.slots > 0 || !streams);
                        prop_assert!(device.experts > 0 || device.all_experts == 0);
                        prop_assert!(device.experts <= device.all_experts);
                    }
                }
                Err(_) => {
                    let least = vec![DeviceBudget::default(); budgets.len()];
                    let least = Plan::new(&units, (1, columns, 512), needs, &least).unwrap();
                    prop_assert!(least.devices.iter().zip(&devices).any(|(least, budget)| least.bytes > *budget));
                }
            }
        }
    }
}
