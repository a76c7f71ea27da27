//! Which units run where, which stay and which stream: pure functions of sizes, budgets and rates.

mod device;
mod experts;
mod predict;
mod whole;

pub use device::{DeviceBudget, DevicePlan};
pub use predict::{Bottleneck, DeviceRates, Prediction, Rates};
pub use whole::Plan;

/// What a unit takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitSize {
    /// The slot that its bytes are read into or, on a device with memory of its own, copied to.
    pub slot: u64,
    /// What its tensors take beside the slot; nothing where they use the slot's bytes as they lie.
    pub tensors: u64,
    /// Its bytes in host memory as they lie in their files.
    pub host: u64,
    /// Keys and values that its device holds for it.
    pub kv_cache: u64,
    /// The experts that its tokens choose among, units of their own.
    pub experts: ExpertSizes,
}

/// What the experts of a layer take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpertSizes {
    /// How many there are.
    pub count: usize,
    /// How many a token chooses.
    pub chosen: usize,
    /// The slot of one.
    pub slot: u64,
    /// What the tensors of one take beside the slot.
    pub tensors: u64,
    /// One of them in host memory as it lies in its files.
    pub host: u64,
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

/// Where a unit lives between passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tier {
    /// Where it is computed with: it is resident.
    Device,
    /// In page-locked host memory, uploaded in each pass.
    Host,
    /// In its file, read in each pass.
    Disk,
}
