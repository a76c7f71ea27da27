use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use leveret::{Backend, Plan as Planned, Prediction, Rates, Tier};
use serde_json::json;

use crate::device::Task;
use crate::load::{DEMO, How};
use crate::memory_bar::MemoryBar;
use crate::units::{at_least_one, gb_per_second, mib, pace, seconds, whole};

/// Measures this machine for a few seconds; says where each part of a model would live, how long a token would take,
/// and what limits it.
#[derive(Debug, Args)]
pub struct Plan {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins.
    #[arg(env = "LEVERET_MODEL", default_value = DEMO)]
    model: PathBuf,
    /// Tokens of the prompt to plan for [default: 512, or half of what the model has positions for].
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    prompt_tokens: Option<usize>,
    /// Tokens to plan to generate [default: 512, or half of what the model has positions for].
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    max_tokens: Option<usize>,
    /// Sequences to plan for.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one, allow_negative_numbers = true)]
    batch: usize,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

impl Plan {
    pub fn run(mut self) -> Result<()> {
        // All of it, so that reading is measured and not the network.
        self.model = self.how.hub.dir(&self.model)?;
        self.how.device.clone().run(self)
    }
}

impl Task for Plan {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let mut model = self.how.load::<B>(&self.model, devices)?;
        let half = (model.dims().max_positions / 2).min(512);
        let prompt = self.prompt_tokens.unwrap_or(half);
        let (max_tokens, positions) = (self.max_tokens.unwrap_or(half), model.dims().max_positions);
        if prompt.saturating_add(max_tokens) > positions {
            bail!(
                "a prompt of {prompt} tokens and {max_tokens} more are asked for, the model has {positions} positions"
            );
        }
        let plan = model.plan(self.batch, prompt, max_tokens)?;
        let rates = model.measure()?;
        let prediction = model.predict(&plan, &rates);
        let (units, weights) = (model.units(), model.checkpoint_bytes());
        let mut out = std::io::stdout();
        if self.json {
            let json = json!({
                "plan": plan, "units": units, "weights": weights, "rates": rates, "prediction": prediction,
            });
            return Ok(writeln!(out, "{json:#}")?);
        }
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.add_row(["weights".to_owned(), format!("{} in {} units", mib(weights), units.len())]);
        describe_plan(&plan, &units, &mut table);
        describe_rates(&rates, &prediction, &mut table);
        let bar = MemoryBar::new(&plan, &model.unit_bytes());
        Ok(writeln!(out, "{}\n\n{}", table.trim_fmt(), bar.show())?)
    }
}

/// Device by device, what lives where.
fn describe_plan(plan: &Planned, units: &[String], table: &mut Table) {
    for (index, device) in plan.devices.iter().enumerate().filter(|(_, device)| !device.units.is_empty()) {
        let number = if plan.devices.len() > 1 { format!(" {index}") } else { String::new() };
        let mut row = |name: String, value: String| {
            table.add_row([name, value]);
        };
        let slots = match device.slots {
            0 => String::new(),
            1 => format!(", one slot of {}", mib(device.slot_len)),
            slots => format!(", {slots} slots of {}", mib(device.slot_len)),
        };
        row(
            format!("device{number}"),
            format!(
                "{}: KV cache {}, activations {} ({} positions at a time){slots}",
                mib(device.bytes),
                mib(device.kv_cache),
                mib(device.activations),
                plan.chunk
            ),
        );
        if device.host_bytes > 0 {
            row(
                format!("host memory{number}"),
                format!("{}, {} of it to read into", mib(device.host_bytes), mib(device.ring)),
            );
        }
        for (name, tier) in [("resident", Tier::Device), ("in host memory", Tier::Host), ("on disk", Tier::Disk)] {
            let here: Vec<_> = device.units.iter().copied().filter(|unit| plan.tiers[*unit] == tier).collect();
            if !here.is_empty() {
                row(format!("  {name}"), format!("{}: {}", counted(here.len()), names(&here, units)));
            }
        }
        if device.all_experts > 0 {
            let host = match device.host_experts {
                0 => String::new(),
                kept => format!(", {kept} in host memory"),
            };
            let size = mib(device.expert_slot_len);
            row(
                "  experts".to_owned(),
                format!("{} of {} resident{host}; {size} each", device.experts, device.all_experts),
            );
        }
    }
}

fn counted(units: usize) -> String {
    match units {
        1 => "1 unit".to_owned(),
        units => format!("{units} units"),
    }
}

/// Layers by their numbers, runs of them by their ends; the rest by name.
fn names(here: &[usize], units: &[String]) -> String {
    let layer = |unit: usize| units[unit].strip_prefix("layer ").and_then(|number| number.parse::<usize>().ok());
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for layer in here.iter().filter_map(|unit| layer(*unit)) {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == layer => *end = layer,
            _ => runs.push((layer, layer)),
        }
    }
    let run = |(start, end): &(usize, usize)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    };
    let layers = (!runs.is_empty()).then(|| format!("layers {}", runs.iter().map(run).collect::<Vec<_>>().join(", ")));
    let others = here.iter().filter(|unit| layer(**unit).is_none()).map(|unit| units[*unit].clone());
    layers.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}

fn describe_rates(rates: &Rates, prediction: &Prediction, table: &mut Table) {
    let from = if rates.cached { "from the page cache" } else { "from disk" };
    table.add_row(["reading".to_owned(), format!("{} {from}", gb_per_second(rates.read))]);
    for device in &rates.devices {
        if let Some(upload) = device.upload {
            table.add_row(["uploading".to_owned(), gb_per_second(upload)]);
        }
        table.add_row(["computing a token".to_owned(), format!("{} of weights", gb_per_second(device.compute))]);
    }
    let parts = [("reading", prediction.read), ("uploading", prediction.upload), ("computing", prediction.compute)];
    let parts = parts.into_iter().filter(|(_, time)| *time > 0.0);
    let parts: Vec<_> = parts.map(|(name, time)| format!("{name} {}", seconds(time))).collect();
    let (token, limit) = (prediction.seconds, prediction.bottleneck);
    let text = format!("{} ({}), limited by {limit}: {}", seconds(token), pace(token), parts.join(", "));
    table.add_row(["a token takes".to_owned(), text]);
}
