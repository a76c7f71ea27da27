use std::fmt;

use serde::Serialize;

use super::{DevicePlan, Plan, Tier, UnitSize};

/// What a machine can do, in bytes of weights a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rates {
    /// From files into host memory, by several readers.
    pub read: f64,
    /// Whether the bytes came from the page cache, so that reading is a copy by the cores.
    pub cached: bool,
    /// Device by device.
    pub devices: Vec<DeviceRates>,
}

/// What one device can do, in bytes of weights a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeviceRates {
    /// From page-locked host memory into its own, if it has some.
    pub upload: Option<f64>,
    /// Through the computation of one token.
    pub compute: f64,
}

/// What limits a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Bottleneck {
    /// Reading weights from their files.
    Disk,
    /// Copying weights to a device.
    Link,
    /// Computing.
    Compute,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "the disk",
            Self::Link => "the link",
            Self::Compute => "the computation",
        })
    }
}

/// How long a pass over one token should take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Prediction {
    /// The whole pass.
    pub seconds: f64,
    /// What takes longest.
    pub bottleneck: Bottleneck,
    /// Reading from files alone.
    pub read: f64,
    /// Uploading alone, on the link that is busiest.
    pub upload: f64,
    /// Computing alone.
    pub compute: f64,
}

impl Plan {
    /// What a pass over one token takes when reading, uploading and computing go on at the same time, as they do
    /// where weights come `ahead`, unless there is but one slot or the same cores have to do it all.
    pub fn predict(&self, units: &[UnitSize], rates: &Rates, ahead: bool) -> Prediction {
        let bytes = |units: &mut dyn Iterator<Item = &UnitSize>| units.map(|unit| unit.host).sum::<u64>() as f64;
        let on_disk = units.iter().zip(&self.tiers).filter(|(_, tier)| **tier == Tier::Disk);
        let mut read = bytes(&mut on_disk.map(|(unit, _)| unit));
        let (mut upload, mut compute, mut one_slot) = (0.0f64, 0.0, false);
        for (device, rates) in self.devices.iter().zip(&rates.devices) {
            let streamed = device.units.iter().filter(|unit| self.tiers[**unit] != Tier::Device);
            let mut streamed = bytes(&mut streamed.map(|unit| &units[*unit]));
            let chosen = |unit: &usize| (units[*unit].experts.chosen as u64 * units[*unit].experts.host) as f64;
            let chosen: f64 = device.units.iter().map(chosen).sum();
            streamed += chosen * device.missed(device.experts);
            read += chosen * device.missed(device.experts.max(device.host_experts));
            upload = upload.max(rates.upload.map_or(0.0, |rate| streamed / rate));
            compute += (bytes(&mut device.units.iter().map(|unit| &units[*unit])) + chosen) / rates.compute;
            one_slot |= device.slots == 1 && streamed > 0.0;
        }
        let read = read / rates.read;
        let cores = rates.cached && rates.devices.iter().all(|rates| rates.upload.is_none());
        let seconds = match (one_slot, cores || !ahead) {
            (false, false) => read.max(upload).max(compute),
            (true, false) => read.max(upload) + compute,
            (_, true) => read + upload + compute,
        };
        let longest = |a: f64, b: f64, c: f64| a >= b && a >= c;
        let bottleneck = match () {
            () if longest(read, upload, compute) => Bottleneck::Disk,
            () if longest(upload, read, compute) => Bottleneck::Link,
            () => Bottleneck::Compute,
        };
        Prediction { seconds, bottleneck, read, upload, compute }
    }
}

impl DevicePlan {
    /// The part of the chosen experts that are not among so many that are kept, if all are chosen equally often.
    fn missed(&self, kept: usize) -> f64 {
        1.0 - kept.min(self.all_experts) as f64 / self.all_experts.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DeviceBudget;

    /// Four units of 100 bytes: what the slowest part takes, and their sum where they take turns.
    #[test]
    fn the_slowest_part_decides() {
        let units = [UnitSize { slot: 100, host: 100, ..UnitSize::default() }; 4];
        let rates =
            |read, upload, cached| Rates { read, cached, devices: vec![DeviceRates { upload, compute: 400.0 }] };
        let plan = |device| {
            let budget = DeviceBudget { device: Some(device), ..DeviceBudget::default() };
            Plan::new(&units, (1, 1, 512), |_| 0, &[budget]).unwrap()
        };
        let seconds = |plan: &Plan, rates: &Rates| {
            let prediction = plan.predict(&units, rates, true);
            (prediction.seconds, prediction.bottleneck)
        };
        let streamed = plan(200);
        assert_eq!(seconds(&streamed, &rates(100.0, None, false)), (4.0, Bottleneck::Disk));
        assert_eq!(seconds(&streamed, &rates(200.0, None, true)), (3.0, Bottleneck::Disk));
        assert_eq!(seconds(&streamed, &rates(1000.0, Some(50.0), true)), (8.0, Bottleneck::Link));
        assert_eq!(seconds(&plan(100), &rates(200.0, None, false)), (3.0, Bottleneck::Disk));
        assert_eq!(streamed.predict(&units, &rates(200.0, None, false), false).seconds, 3.0);
        assert_eq!(seconds(&plan(400), &rates(1.0, Some(1.0), false)), (1.0, Bottleneck::Compute));
    }
}
