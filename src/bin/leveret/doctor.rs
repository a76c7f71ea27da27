use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use leveret::Hub;

/// Says what there is to run models with, and what to do about what is missing.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Directory of a checkpoint, or one where checkpoints are to lie, or the name of a model that was downloaded.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Prints one JSON array.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn run(self) -> Result<()> {
        let dir = Hub::from_env().offline(true).dir(&self.dir)?;
        std::fs::read_dir(&dir).map_err(|error| leveret::Error::Io { path: dir.clone(), error })?;
        let findings = leveret::doctor(&dir);
        let mut out = std::io::stdout();
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?);
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        for finding in findings {
            // As errors say it: what is wrong, a semicolon, the next step.
            let text = [Some(finding.found), finding.next].into_iter().flatten().collect::<Vec<_>>().join("; ");
            let row = [finding.mark.to_string(), finding.subject, text];
            table.add_row(row.map(|cell| cell.replace(char::is_control, " ")));
        }
        Ok(writeln!(out, "{}", table.trim_fmt())?)
    }
}
