use std::io::Write;

use anyhow::{Result, bail};
use clap::Args;
use leveret::{Hub, RepoId};

use crate::units::gb;

/// Removes a downloaded model from the cache, or one revision of it with what no other revision has.
#[derive(Debug, Args)]
pub struct Rm {
    /// Name on the hub: org/name for all that was downloaded of it, org/name@revision for one revision.
    model: RepoId,
    /// Does not ask.
    #[arg(long, short)]
    yes: bool,
}

impl Rm {
    pub fn run(self) -> Result<()> {
        let removal = Hub::from_env().removal(&self.model)?;
        let size = gb(removal.bytes());
        if !self.yes && !confirmed(&format!("Remove {}, {size}? [y/N] ", self.model))? {
            bail!("nothing was removed");
        }
        removal.remove()?;
        Ok(writeln!(std::io::stdout(), "{size} are free again")?)
    }
}

fn confirmed(question: &str) -> Result<bool> {
    let mut answer = String::new();
    write!(std::io::stderr(), "{question}")?;
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&&*answer.trim().to_lowercase()))
}
