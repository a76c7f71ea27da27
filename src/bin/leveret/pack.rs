use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use leveret::models::weight::Format;
use leveret::{Backend, Budget, PackProgress, PackReport};

use crate::device::{Devices, Task};
use crate::hub::HubFlags;
use crate::units::{mib, percent};

/// Packs the linear layers of a checkpoint into a directory of its own; norms and the embedding stay as they are.
///
/// A run that was ended goes on where it stopped when the command is given again.
#[derive(Debug, Args)]
pub struct Pack {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins. It is only read.
    model: PathBuf,
    /// Directory to write to; made if it is not there.
    out: PathBuf,
    /// Bits of a weight, beside the scales: 8 is all but without loss, 4 is half the size.
    #[arg(long, value_name = "BITS", value_parser = PossibleValuesParser::new(["8", "4"]))]
    bits: String,
    /// Floats (E4M3, as the hub's FP8) instead of integers; 8 bits only.
    #[arg(long)]
    float: bool,
    /// Size of a file of weights at most.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    max_shard_size: u64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubFlags,
}

impl Pack {
    pub fn run(self) -> Result<()> {
        Devices::any()?.run(self)
    }
}

impl Task for Pack {
    fn run<B: Backend>(self, _devices: Vec<B::Device>) -> Result<()> {
        let format = match (self.bits.as_str(), self.float) {
            ("8", true) => Format::Fp8,
            ("8", false) => Format::Int8,
            (_, false) => Format::Int4,
            (bits, true) => {
                let text = format!("there is no format of floats of {bits} bits; use --bits 8 --float or --bits 4");
                let mut command = crate::Cli::command();
                command.build();
                let pack = command.find_subcommand_mut("pack").expect("it is running");
                pack.error(ErrorKind::ArgumentConflict, text).exit()
            }
        };
        let model = self.hub.dir(&self.model)?;
        let pack = leveret::Pack { max_shard_size: self.max_shard_size, ..leveret::Pack::new(format) };
        let shows = std::io::stderr().is_terminal();
        let report = pack.write_and_tell::<B>(&model, &self.out, |progress| {
            if shows {
                show(&line(progress));
            }
        });
        if shows {
            show("");
        }
        let report = report?;
        let mut out = std::io::stdout();
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
            false => writeln!(out, "{}", table(&report).trim_fmt())?,
        }
        Ok(())
    }
}

/// Puts a line in the place of the one before.
fn show(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}

fn line(progress: &PackProgress<'_>) -> String {
    let done = progress.done as f64 / progress.total.max(1) as f64;
    format!("{}: {} of {} written: {}", percent(done), mib(progress.done), mib(progress.total), progress.part)
}

fn table(report: &PackReport) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let smaller = report.bytes as f64 / report.source_bytes.max(1) as f64;
    row("weights before", mib(report.source_bytes));
    row("weights now", format!("{}, {} of that", mib(report.bytes), percent(smaller)));
    row("format", format!("{}, {:.2} bits a weight", report.format, report.bits_per_weight));
    row("matrices packed", report.packed_matrices.to_string());
    if report.dense_matrices > 0 {
        row("left as they are", format!("{}, which groups of 32 do not fill", report.dense_matrices));
    }
    row("relative error", format!("{:.2} % (root mean square)", 100.0 * report.relative_error));
    let kept = match report.kept_shards {
        0 => String::new(),
        kept => format!(", {kept} of them from an earlier run"),
    };
    row("files", format!("{}{kept}", report.shards));
    table
}

/// Reads a size of at least a byte.
fn size(text: &str) -> Result<u64> {
    match text.parse()? {
        Budget::Bytes(bytes) if bytes > 0 => Ok(bytes),
        _ => bail!("`{text}` is not the size of a file; write bytes, `512MiB` or `4GiB`"),
    }
}
