//! The same model in several budgets.

use anyhow::Result;
use leveret::models::Dims;
use leveret::{Backend, Budget, Model, Plan};

use crate::load::How;

/// Budgets between the least that runs and the most that is of use.
const STEPS: u64 = 4;

/// Ways to load that differ in the budget of what is computed in: those that are named, or else some from the least
/// that runs to what `how` allows, if all of it is of use. `load` and `plan` make a model and its plan.
pub fn budgets<B: Backend>(
    how: &How,
    named: &[Budget],
    load: impl Fn(&How) -> leveret::Result<Model<B>>,
    plan: impl Fn(&Model<B>) -> leveret::Result<Plan>,
) -> Result<Vec<(Option<Budget>, How)>> {
    let most = plan(&load(how)?)?;
    let has_own_memory = most.devices.iter().any(|device| device.host_bytes > 0);
    let how = |budget: Budget| match has_own_memory {
        true => How { vram: budget, ..how.clone() },
        false => How { ram: budget, ..how.clone() },
    };
    let with = |budget: Budget| (Some(budget), how(budget));
    if !named.is_empty() {
        return Ok(named.iter().copied().map(with).collect());
    }
    let least = plan(&load(&how(Budget::Min))?)?.bytes();
    let more = most.bytes().saturating_sub(least);
    // A budget is for each device; those of several take about the same.
    let devices = most.devices.len().max(1) as u64;
    let bytes = |step: u64| (least + more * step / STEPS).div_ceil(devices);
    let steps = (1..=STEPS).filter(|_| more > 0);
    Ok([Budget::Min].into_iter().chain(steps.map(|step| Budget::Bytes(bytes(step)))).map(with).collect())
}

/// Tokens of a prompt that a model has positions for beside those that are generated.
pub fn prompt_tokens(asked: Option<usize>, max_tokens: usize, dims: &Dims) -> usize {
    asked.unwrap_or_else(|| dims.max_positions.saturating_sub(max_tokens).clamp(1, 512))
}
