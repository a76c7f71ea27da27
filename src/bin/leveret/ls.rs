use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use leveret::{CachedModel, Hub};

use crate::units::gb;

/// Lists models that were downloaded from the Hugging Face hub, by whatever program; asks the cache alone.
#[derive(Debug, Args)]
pub struct Ls {
    /// Prints one JSON array.
    #[arg(long)]
    json: bool,
    /// Changes nothing: the cache alone is asked anyway.
    #[arg(long, hide = true)]
    offline: bool,
}

impl Ls {
    pub fn run(self) -> Result<()> {
        let hub = Hub::from_env();
        let models = hub.cached()?;
        let mut out = std::io::stdout();
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&models)?)?);
        }
        if models.is_empty() {
            let text = format!("no models in {}; `leveret pull org/name` brings one", hub.cache().display());
            let _ = writeln!(std::io::stderr(), "{}", text.replace(char::is_control, " "));
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["model", "revision", "size", "last used", ""]);
        for model in models {
            let (size, used) = (gb(model.bytes), age(now.saturating_sub(model.last_used)));
            let row = [model.model.clone(), revision(&model), size, used, state(&model)];
            table.add_row(row.map(|cell| cell.replace(char::is_control, " ")));
        }
        Ok(writeln!(out, "{}", table.trim_fmt())?)
    }
}

/// The names of a commit and its beginning.
fn revision(model: &CachedModel) -> String {
    let commit: String = model.commit.chars().take(8).collect();
    match model.revisions.is_empty() {
        true => commit,
        false => format!("{} ({commit})", model.revisions.join(", ")),
    }
}

fn state(model: &CachedModel) -> String {
    match (&model.missing[..], model.partial_bytes) {
        ([], _) => String::new(),
        (missing, 0) => format!("partial: {} missing", missing.join(", ")),
        (missing, bytes) => format!("partial: {} missing, {} of that there", missing.join(", "), gb(bytes)),
    }
}

/// How long ago something was.
fn age(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}
