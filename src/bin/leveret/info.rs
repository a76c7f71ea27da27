use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use leveret::Backend;
use leveret::models::layers::Experts;
use leveret::models::registry::FAMILIES;

use crate::device::Task;
use crate::load::How;
use crate::memory_bar::MemoryBar;
use crate::units::mib;

/// Shows what a checkpoint holds and how it would run; without one, what can be run.
#[derive(Debug, Args)]
pub struct Info {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins. No weights are downloaded for this.
    model: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// Positions of a model that keeps a state instead of what was said, and has no heads of attention.
const ENDLESS: usize = i32::MAX as usize;

impl Info {
    pub fn run(self) -> Result<()> {
        match self.model {
            Some(_) => self.how.device.clone().run(self),
            None => {
                let mut table = Table::new();
                table.load_style(NOTHING).set_header(["family", "model_type"]);
                for family in FAMILIES {
                    table.add_row([family.name.to_owned(), family.model_types.join(", ")]);
                }
                Ok(writeln!(std::io::stdout(), "{}", table.trim_fmt())?)
            }
        }
    }
}

impl Task for Info {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let model = self.how.load::<B>(self.model.as_deref().unwrap_or("".as_ref()), devices)?;
        let dims = model.dims();
        let prompt = (dims.max_positions / 2).min(512);
        let plan = model.plan(1, prompt, prompt)?;
        let resident = plan.resident();
        let mut table = Table::new();
        table.load_style(NOTHING);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("layers", dims.num_layers.to_string());
        row("hidden_size", dims.hidden_size.to_string());
        let is_endless = dims.max_positions >= ENDLESS;
        if !is_endless {
            row("heads", format!("{} of {}, {} for keys", dims.num_heads, dims.head_dim, dims.num_kv_heads));
        }
        if let Some(experts) = experts(&model.experts()) {
            row("experts", experts);
        }
        row("vocab_size", dims.vocab_size.to_string());
        row("positions", if is_endless { "without end".to_owned() } else { dims.max_positions.to_string() });
        row("run dtype", format!("{:?}", model.dtype()));
        row("weights", mib(model.checkpoint_bytes()));
        row("packed", model.format().map_or("no".to_owned(), |format| format.to_string()));
        row("tokenizer", if model.tokenizer().is_some() { "yes" } else { "none" }.to_owned());
        row("chat template", if model.has_chat_template() { "yes" } else { "none" }.to_owned());
        row("plan", format!("{resident} of {} units resident, {} slots", plan.tiers.len(), plan.devices[0].slots));
        row("", format!("{} for {} positions; `leveret plan` says more", mib(plan.bytes()), 2 * prompt));
        let bar = MemoryBar::new(&plan, &model.unit_bytes());
        Ok(writeln!(std::io::stdout(), "{}\n\n{}", table.trim_fmt(), bar.show())?)
    }
}

/// How many experts there are, and how many a token chooses.
fn experts(layers: &[Option<Experts>]) -> Option<String> {
    let some: Vec<_> = layers.iter().flatten().collect();
    let (first, last) = (some.first()?, some.last()?);
    let range =
        if first.count == last.count { first.count.to_string() } else { format!("{} to {}", first.count, last.count) };
    Some(format!("{range} in each of {} layers, {} for a token", some.len(), first.chosen))
}
