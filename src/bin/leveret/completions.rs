use std::io::Write;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Prints what a shell needs to complete commands, flags and their values.
///
/// bash: leveret completions bash > ~/.local/share/bash-completion/completions/leveret;
/// zsh: leveret completions zsh > a file _leveret in a directory of $fpath;
/// fish: leveret completions fish > ~/.config/fish/completions/leveret.fish
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<()> {
        // Not straight to standard output: a reader that goes away is no error.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "leveret", &mut script);
        Ok(std::io::stdout().write_all(&script)?)
    }
}
