//! The `leveret` command.

mod bars;
mod bench;
mod chat;
mod chat_input;
mod device;
mod doctor;
mod generate;
mod hub;
mod info;
mod load;
mod ls;
mod pack;
mod plan;
mod profile;
mod pull;
mod rm;
#[cfg(feature = "server")]
mod serve;
mod synth;
mod trace;
mod units;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs language models that are larger than the device, streaming their weights layer by layer.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

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
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(command) => command.run(),
        Command::Chat(command) => command.run(),
        #[cfg(feature = "server")]
        Command::Serve(command) => command.run(),
        Command::Info(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Pull(command) => command.run(),
        Command::Ls(command) => command.run(),
        Command::Rm(command) => command.run(),
        Command::Pack(command) => command.run(),
        Command::Synth(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has gone, as `head` does: nothing is wrong.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a checkpoint has put into it; nobody may be left to read it.
            let text = format!("{error:#}").replace(char::is_control, " ");
            let _ = writeln!(std::io::stderr(), "error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
