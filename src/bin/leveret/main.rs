//! The `leveret` command.

mod bars;
mod bench;
mod chat;
mod chat_input;
mod completions;
mod device;
mod doctor;
mod generate;
mod history;
mod hub;
mod info;
mod live_line;
mod load;
mod log;
mod ls;
mod man;
mod memory_bar;
mod pack;
mod picture;
mod plan;
mod plot;
mod profile;
mod pull;
mod rm;
#[cfg(feature = "server")]
mod serve;
mod sweep;
mod synth;
mod trace;
mod units;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use log::Log;
use trace::Trace;

/// What a launch on a GPU needs is allocated on one thread and freed on another.
#[cfg(all(feature = "cuda", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs language models that are larger than the device, streaming their weights layer by layer.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: Log,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done, also where the reader of the output went away
  1    an error, which standard error tells in one line; of `verify` also answers that differ
  2    flags that cannot be read
  130  interrupted (Ctrl-C), as shells count it";

/// The exit code of what Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Subcommand)]
enum Command {
    /// Goes on from a prompt, or from several at once.
    Generate(generate::Generate),
    /// Talks with a model, turn by turn.
    Chat(chat::Chat),
    /// Serves a model over HTTP, as OpenAI's API does, with a page to chat in.
    #[cfg(feature = "server")]
    Serve(serve::Serve),
    /// Shows what a checkpoint holds and how it would run; without one, what can be run.
    Info(info::Info),
    /// Says what there is to run models with, and what to do about what is missing.
    Doctor(doctor::Doctor),
    /// Measures this machine; says where each part of a model would live, and how long a token would take.
    Plan(plan::Plan),
    /// Measures how fast a model runs, and what the machine could do at most.
    Bench(bench::Bench),
    /// Compares a model's answers with those of another implementation, or of another model on a text.
    Verify(verify::Verify),
    /// Downloads a model from the Hugging Face hub.
    Pull(pull::Pull),
    /// Lists downloaded models.
    Ls(ls::Ls),
    /// Removes a downloaded model.
    Rm(rm::Rm),
    /// Packs a checkpoint's linear layers into 8 or 4 bits a weight.
    Pack(pack::Pack),
    /// Writes a checkpoint of a well-known model's shapes with random weights, to measure with.
    Synth(synth::Synth),
    /// Prints what a shell needs to complete commands and flags.
    Completions(completions::Completions),
    /// Prints the manual page.
    Man(man::Man),
}

/// What has gone wrong was told when it did.
#[derive(Debug, thiserror::Error)]
#[error("told before")]
struct Told;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has gone, as `head` does: nothing is wrong.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(leveret::Error::Cancelled)) => ExitCode::from(INTERRUPTED),
        Err(error) if error.is::<Told>() => ExitCode::FAILURE,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line, whatever a checkpoint has put into it; nobody may be left to read it.
fn tell(error: &anyhow::Error) {
    let text = format!("{error:#}").replace(char::is_control, " ");
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

fn run(cli: Cli) -> Result<()> {
    let trace = match &cli.command {
        Command::Generate(command) => command.trace(),
        _ => None,
    };
    let trace = Trace::start(trace, &cli.log)?;
    let result = cli.command.run();
    trace.map_or(Ok(()), Trace::finish)?;
    result
}

impl Command {
    fn run(self) -> Result<()> {
        match self {
            Self::Generate(command) => command.run(),
            Self::Chat(command) => command.run(),
            #[cfg(feature = "server")]
            Self::Serve(command) => command.run(),
            Self::Info(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Plan(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Pull(command) => command.run(),
            Self::Ls(command) => command.run(),
            Self::Rm(command) => command.run(),
            Self::Pack(command) => command.run(),
            Self::Synth(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
