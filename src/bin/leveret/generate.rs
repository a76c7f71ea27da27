use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use leveret::{Backend, Cancellation, Completion, Conversation, Error, GenerateOptions, Message, Prompt, Stats};
use serde_json::json;

use crate::INTERRUPTED;
use crate::device::Task;
use crate::live_line::LiveLine;
use crate::load::Load;
use crate::profile;
use crate::units::{mib, pace, whole};

/// Goes on from a prompt, or from several at once.
#[derive(Debug, Args)]
pub struct Generate {
    /// Prompts; several make a batch. `-` reads one from standard input.
    #[arg(required_unless_present = "tokens", value_name = "PROMPT")]
    prompts: Vec<String>,
    /// Token ids instead of text, such as 1,15,27.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["prompts", "chat"], value_name = "IDS")]
    tokens: Option<Vec<u32>>,
    /// Takes each prompt as a user's message and renders the checkpoint's chat template.
    #[arg(long)]
    chat: bool,
    /// System prompt of the conversation.
    #[arg(long, requires = "chat", value_name = "TEXT")]
    system: Option<String>,
    /// Name of the chat template, where the checkpoint has several.
    #[arg(long, requires = "chat", value_name = "NAME")]
    template: Option<String>,
    /// Prints the reply alone, without the prompt before it.
    #[arg(long)]
    no_echo: bool,
    /// Prints one JSON object with replies, token ids and numbers, also of replies that Ctrl-C or an error cut short.
    #[arg(long)]
    json: bool,
    /// Prints where the time went, at the end; a GPU is waited for after every layer, which takes a little longer.
    #[arg(long)]
    profile: bool,
    /// Writes a trace of readers, uploads and computation to a file, for ui.perfetto.dev or chrome://tracing; waits as
    /// --profile does.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Prints no numbers at the end.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    options: Options,
}

/// Sampling and stopping; what is left out is taken from the checkpoint's generation_config.json.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling and stopping")]
pub struct Options {
    /// Tokens to generate at most [default: the checkpoint's, or as many as the model has positions for].
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    max_tokens: Option<usize>,
    /// What logits are divided by; 0 takes the likeliest token.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keeps the fewest tokens whose probabilities reach this sum.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Keeps tokens at least this likely, as a fraction of the likeliest.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Makes tokens of prompt and reply less likely; 1 is neutral.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Subtracted from logits of tokens in the reply.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtracted for each time that a token is in the reply.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Makes sampling repeatable.
    #[arg(long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Text that ends the reply and is not part of it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Goes on past end-of-sequence tokens.
    #[arg(long)]
    ignore_eos: bool,
}

impl From<&Options> for GenerateOptions {
    fn from(options: &Options) -> Self {
        Self {
            max_tokens: options.max_tokens,
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            repetition_penalty: options.repetition_penalty,
            presence_penalty: options.presence_penalty,
            frequency_penalty: options.frequency_penalty,
            seed: options.seed,
            stop: options.stop.clone(),
            ignore_eos: options.ignore_eos,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

impl Generate {
    pub fn run(mut self) -> Result<()> {
        for prompt in self.prompts.iter_mut().filter(|prompt| *prompt == "-") {
            prompt.clear();
            std::io::stdin().read_to_string(prompt).context("standard input")?;
        }
        self.load.how.profile = self.profile || self.trace.is_some();
        self.load.how.device.clone().run(self)
    }

    /// The file that a trace is written to.
    pub fn trace(&self) -> Option<&Path> {
        self.trace.as_deref()
    }

    fn prompts(&self) -> Vec<Prompt> {
        match &self.tokens {
            Some(tokens) => vec![tokens.clone().into()],
            None => self.prompts.iter().map(|prompt| self.prompt(prompt)).collect(),
        }
    }

    fn prompt(&self, text: &str) -> Prompt {
        if !self.chat {
            return text.into();
        }
        let messages = self.system.iter().map(Message::system).chain([Message::user(text)]).collect();
        let template = self.template.clone();
        Conversation { messages, template, add_generation_prompt: true, ..Conversation::default() }.into()
    }

    /// The prompt as it stands before its reply.
    fn echo(&self, sequence: usize) -> &str {
        match self.chat || self.no_echo {
            true => "",
            false => self.prompts.get(sequence).map_or("", String::as_str),
        }
    }

    /// Prints all replies at once.
    fn print(&self, completions: &[Completion], stats: &Stats) -> Result<()> {
        let mut out = std::io::stdout();
        if self.json {
            let peak_memory = leveret::peak_memory();
            let json = json!({ "completions": completions, "stats": stats, "peak_memory": peak_memory });
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?);
        }
        for (sequence, completion) in completions.iter().enumerate() {
            writeln!(out, "[{}] {}{}\n", sequence + 1, self.echo(sequence), completion.text)?;
        }
        Ok(())
    }
}

impl Task for Generate {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let mut model = self.load.how.load::<B>(&self.load.model, devices)?;
        let has_text = model.tokenizer().is_some();
        if self.options.max_tokens == Some(0) {
            let _ = writeln!(std::io::stderr(), "warning: --max-tokens is 0, so that replies are empty");
        }
        end_on_signal(model.cancellation())?;
        let mut generation = model.stream_batch(self.prompts(), &(&self.options).into())?;
        let at_the_end = self.json || self.prompts.len() > 1;
        let failed = match at_the_end {
            true => generation.find_map(Result::err),
            false => print_as_it_comes(&mut generation, self.echo(0), has_text, LiveLine::new(self.quiet))?,
        };
        let (completions, stats) = (generation.completions(), generation.stats());
        // Replies that were cut short are worth their time as far as they came.
        let has_any = completions.iter().any(|completion| !completion.tokens.is_empty());
        if at_the_end && (failed.is_none() || has_any) {
            self.print(completions, stats)?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        if self.profile {
            let _ = writeln!(std::io::stderr(), "{}\n", profile::table(stats).trim_fmt());
        }
        // Numbers for those who read them; there are none where --max-tokens is 0.
        if !self.quiet && !self.json && stats.units > 0 {
            let _ = writeln!(std::io::stderr(), "{}", summary(completions, stats));
        }
        Ok(())
    }
}

/// Lets Ctrl-C end the generation, which takes its numbers off the terminal, and a second one the process.
fn end_on_signal(cancellation: Cancellation) -> Result<()> {
    let asked = AtomicBool::new(false);
    let end = move || match asked.swap(true, Ordering::Relaxed) {
        false => cancellation.cancel(),
        true => std::process::exit(INTERRUPTED.into()),
    };
    ctrlc::set_handler(end).context("Ctrl-C")
}

/// Prints a reply token by token; the error that ended it, if one did.
fn print_as_it_comes<B: Backend>(
    generation: &mut leveret::Generation<'_, B>,
    prompt: &str,
    has_text: bool,
    mut line: LiveLine,
) -> Result<Option<Error>> {
    let mut out = std::io::stdout();
    // The prompt is echoed once the first token is there, so that an error is not preceded by half an answer.
    let mut before = prompt;
    let mut has_begun = false;
    while let Some(token) = generation.next() {
        let token = match token {
            Ok(token) => token,
            Err(error) => {
                let end = if has_begun && matches!(error, Error::Cancelled) { "\n" } else { "" };
                write!(out, "{}{end}", line.end())?;
                return Ok(Some(error));
            }
        };
        let text = if has_text { token.text } else { token.id.to_string() };
        write!(out, "{}", line.with(&format!("{before}{text}"), generation.stats()))?;
        before = if has_text { "" } else { "," };
        has_begun = true;
        out.flush()?;
    }
    writeln!(out, "{}", line.end())?;
    Ok(None)
}

/// One line of numbers.
fn summary(completions: &[Completion], stats: &Stats) -> String {
    let tokens = stats.prefill.tokens + stats.decode.iter().map(|pass| pass.tokens).sum::<usize>();
    let batch = completions.len();
    let pace = stats.seconds_per_token().map(|seconds| format!(", {}", pace(seconds / batch as f64)));
    let dim = if std::io::stderr().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    format!(
        "{}prompt {} tokens, first token after {:.2} s{}; {tokens} positions computed; {} of {} units resident, {} \
         planned{}",
        dim.0,
        stats.prefill.tokens,
        stats.ttft,
        pace.unwrap_or_default(),
        stats.resident_units,
        stats.units,
        mib(stats.planned_bytes),
        dim.1
    )
}
