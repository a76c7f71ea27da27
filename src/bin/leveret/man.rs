use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};

/// Prints the manual page of `leveret`, for `man -l -`; or writes one page for each command.
#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write leveret.1, leveret-generate.1 and so on to; made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<()> {
        let command = crate::Cli::command();
        if let Some(dir) = self.dir {
            let write = || {
                std::fs::create_dir_all(&dir)?;
                clap_mangen::generate_to(command, &dir)
            };
            return write().with_context(|| dir.display().to_string());
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        Ok(std::io::stdout().write_all(&page)?)
    }
}
