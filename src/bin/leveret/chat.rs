//! A conversation in the terminal.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use leveret::{Backend, Cancellation, Conversation, Error, GenerateOptions, Message, Model, Session, Stats};
use serde_json::{Value, json};

use crate::Told;
use crate::chat_input::{Input, Typed};
use crate::device::Task;
use crate::generate::Options;
use crate::load::{DEMO, How};
use crate::units::{at_least_one, pace};

/// Talks with a model; what it has read is not computed again in the next turn. `/help` says what can be typed.
#[derive(Debug, Args)]
pub struct Chat {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins.
    #[arg(env = "LEVERET_MODEL", default_value = DEMO)]
    model: PathBuf,
    /// System prompt of the conversation, unless --session goes on with one that has its own.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Keeps the conversation, its KV cache and the sampler's state in a file, from which the same command goes on, also
    /// in the middle of a reply.
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// Keeps no lines that are typed for the next run; else they are in leveret/history of $XDG_STATE_HOME, by default
    /// ~/.local/state.
    #[arg(long)]
    no_history: bool,
    /// Positions to make room for, of all turns together [default: 4096, or as many as the model has].
    #[arg(long, env = "LEVERET_CONTEXT", value_name = "N", value_parser = at_least_one)]
    context: Option<usize>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    options: Options,
}

const HELP: &str = "\
/save FILE   writes the conversation as JSON
/load FILE   reads one, and answers it if it waits for that
/reset       forgets the conversation, the system prompt aside
/stats       numbers of the last reply
/help        this
/exit        ends, as Ctrl-D does
\"\"\"          begins and ends a message of several lines
Ctrl-C       ends a reply; the conversation goes on";

/// A conversation and what it is held with.
struct Talk<'a, B: Backend> {
    model: &'a mut Model<B>,
    session: Session<B>,
    messages: Vec<Message>,
    /// What it begins with.
    system: Vec<Message>,
    options: GenerateOptions,
    file: Option<PathBuf>,
    cancellation: Cancellation,
    stats: Option<Stats>,
    /// Whether something has gone wrong that was told.
    failed: bool,
}

impl Chat {
    pub fn run(self) -> Result<()> {
        self.how.device.clone().run(self)
    }
}

impl Task for Chat {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let mut model = self.how.load::<B>(&self.model, devices)?;
        anyhow::ensure!(
            model.has_chat_template(),
            "{}: there is no chat template here to make prompts of a conversation with; try `leveret generate`",
            self.model.display()
        );
        let context = self.context.unwrap_or(4096).min(model.dims().max_positions);
        let cancellation = model.cancellation();
        let on_signal = cancellation.clone();
        ctrlc::set_handler(move || on_signal.cancel()).context("Ctrl-C")?;
        let mut system: Vec<_> = self.system.iter().map(Message::system).collect();
        let kept = self.session.as_ref().filter(|path| path.exists());
        let (session, messages) = match kept {
            Some(path) => {
                let (session, note) = model.load_session(path, context)?;
                let messages: Vec<_> = serde_json::from_value(note).with_context(|| path.display().to_string())?;
                system = system_of(&messages, system, path);
                (session, messages)
            }
            None => (model.session(context)?, system.clone()),
        };
        let (model, options, file) = (&mut model, (&self.options).into(), self.session.clone());
        let mut talk =
            Talk { model, session, messages, system, options, file, cancellation, stats: None, failed: false };
        let mut out = std::io::stdout();
        // Where nothing can be kept, that is told before anything is computed.
        talk.keep()?;
        // A reply that was begun in another process goes on.
        if talk.waits_for_reply() {
            talk.reply()?;
        }
        let mut input = match std::io::stdin().is_terminal() {
            true => Input::terminal(!self.no_history)?,
            false => Input::plain(),
        };
        while let Some(typed) = input.message()? {
            let line = match typed {
                Typed::Text(text) if text.trim().is_empty() => continue,
                Typed::Text(text) => {
                    talk.answer(Message::user(text))?;
                    continue;
                }
                Typed::Line(line) => line,
            };
            match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
                ("", _) => {}
                ("/exit" | "/quit", _) => break,
                ("/help", _) => writeln!(out, "{HELP}")?,
                ("/reset", _) => {
                    talk.messages = talk.system.clone();
                    talk.session.clear();
                    talk.stats = None;
                    talk.keep_or_tell();
                }
                ("/stats", _) => writeln!(out, "{}", talk.numbers())?,
                (command @ ("/save" | "/load"), "") => writeln!(out, "{command} needs a FILE")?,
                ("/save", path) => match save(Path::new(path.trim()), &talk.messages) {
                    Ok(()) => writeln!(out, "wrote {}", counted(&talk.messages))?,
                    Err(error) => talk.tell(&error),
                },
                ("/load", path) => match load(Path::new(path.trim())) {
                    Ok(messages) => {
                        writeln!(out, "read {}", counted(&messages))?;
                        talk.begin(messages)?;
                    }
                    Err(error) => talk.tell(&error),
                },
                (command, _) if command.starts_with('/') => {
                    writeln!(out, "unknown command `{command}`; /help says what there is")?;
                }
                _ => talk.answer(Message::user(line))?,
            }
        }
        // A script looks at the exit code alone.
        match talk.failed && !std::io::stdin().is_terminal() {
            true => Err(Told.into()),
            false => Ok(()),
        }
    }
}

impl<B: Backend> Talk<'_, B> {
    fn waits_for_reply(&self) -> bool {
        self.messages.last().is_some_and(|message| is_of(message, "user"))
    }

    /// Goes on with another conversation, and answers it where it waits for that.
    fn begin(&mut self, mut messages: Vec<Message>) -> Result<()> {
        self.system = beginning(&messages);
        self.stats = None;
        let last = messages.pop_if(|message| is_of(message, "user"));
        self.messages = messages;
        self.keep_or_tell();
        last.map_or(Ok(()), |message| self.answer(message))
    }

    /// Answers a message, or tells why not: then it is as if it had not been said.
    /// Only where nobody reads the replies any more is there no going on.
    fn answer(&mut self, message: Message) -> Result<()> {
        self.messages.push(message);
        let Err(error) = self.reply() else { return Ok(()) };
        self.messages.pop();
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            return Err(error);
        }
        let is_full = matches!(error.downcast_ref(), Some(Error::TooLong { .. }));
        let advice = if is_full { self.room() } else { String::new() };
        self.tell(&anyhow::anyhow!("the message is not taken: {error:#}{advice}"));
        Ok(())
    }

    /// What makes room for a message that finds none.
    fn room(&self) -> String {
        let reset = if self.messages.len() > self.system.len() { ", begin anew (/reset)" } else { "" };
        let more = self.session.context() < self.model.dims().max_positions;
        format!("{reset}{}", if more { ", or make more room (--context)" } else { "" })
    }

    /// Prints the reply to the last message as it comes, and takes it into the conversation. What is cancelled before
    /// there is any goes with its message.
    fn reply(&mut self) -> Result<()> {
        let conversation =
            Conversation { messages: self.messages.clone(), add_generation_prompt: true, ..Conversation::default() };
        let note = serde_json::to_value(&self.messages)?;
        self.cancellation.reset();
        let mut out = std::io::stdout();
        let (mut text, mut cancelled) = (String::new(), false);
        let mut generation = self.model.stream_in(&mut self.session, conversation, &self.options)?;
        let (mut saved, mut rest) = (Instant::now(), Duration::ZERO);
        while let Some(token) = generation.next() {
            match token {
                Ok(token) => {
                    write!(out, "{}", token.text)?;
                    out.flush()?;
                    text.push_str(&token.text);
                }
                Err(Error::Cancelled) => cancelled = true,
                Err(error) => {
                    // What there is of the reply does not share its line with the error.
                    write!(out, "{}", if text.is_empty() { "" } else { "\n" })?;
                    return Err(error.into());
                }
            }
            // Writing takes a tenth of the time at most.
            if let Some(file) = self.file.as_ref().filter(|_| !cancelled && saved.elapsed() >= rest) {
                let started = Instant::now();
                // What cannot be written now is told at the end, when it is tried again.
                let kept = generation.save_session(file, &note);
                (rest, saved) = (if kept.is_ok() { 10 * started.elapsed() } else { Duration::MAX }, Instant::now());
            }
        }
        writeln!(out, "{}", if cancelled { " [cancelled]" } else { "" })?;
        self.stats = Some(generation.stats().clone());
        drop(generation);
        match cancelled && text.is_empty() {
            true => drop(self.messages.pop()),
            false => self.messages.push(Message::assistant(text)),
        }
        if cancelled {
            self.session.end_reply();
        }
        self.keep_or_tell();
        Ok(())
    }

    /// Writes the session, where it is to be kept.
    fn keep(&mut self) -> Result<()> {
        let note = serde_json::to_value(&self.messages)?;
        match &self.file {
            Some(file) => Ok(self.model.save_session(&self.session, file, &note)?),
            None => Ok(()),
        }
    }

    fn keep_or_tell(&mut self) {
        if let Err(error) = self.keep() {
            self.tell(&error);
        }
    }

    /// Tells what went wrong, and goes on.
    fn tell(&mut self, error: &anyhow::Error) {
        crate::tell(error);
        self.failed = true;
    }

    fn numbers(&self) -> String {
        let (kept, room) = (self.session.len(), self.session.context());
        let Some(stats) = &self.stats else { return format!("{kept} of {room} positions are taken; no reply yet") };
        let pace = stats.seconds_per_token().map(|seconds| format!(", {}", pace(seconds))).unwrap_or_default();
        format!(
            "{} new tokens read, first token after {:.2} s{pace}; {kept} of {room} positions are taken; {} of {} units \
             resident",
            stats.prefill.tokens, stats.ttft, stats.resident_units, stats.units
        )
    }
}

/// What a conversation of a session begins with; tells where that is not what is asked for.
fn system_of(messages: &[Message], asked: Vec<Message>, path: &Path) -> Vec<Message> {
    let kept = beginning(messages);
    if asked.is_empty() || asked == kept {
        return kept;
    }
    let _ = writeln!(
        std::io::stderr(),
        "warning: {} goes on with a conversation that has {} system prompt: --system counts from the next /reset on",
        path.display(),
        if kept.is_empty() { "no" } else { "another" }
    );
    asked
}

/// The system prompts that a conversation begins with.
fn beginning(messages: &[Message]) -> Vec<Message> {
    messages.iter().take_while(|message| is_of(message, "system")).cloned().collect()
}

fn counted(messages: &[Message]) -> String {
    format!("{} message{}", messages.len(), if messages.len() == 1 { "" } else { "s" })
}

fn is_of(message: &Message, role: &str) -> bool {
    serde_json::to_value(message).is_ok_and(|message| message["role"] == role)
}

fn save(path: &Path, messages: &[Message]) -> Result<()> {
    let text = serde_json::to_string_pretty(&json!({ "messages": messages }))?;
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn load(path: &Path) -> Result<Vec<Message>> {
    let read = || -> Result<Vec<Message>> {
        let mut json: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let messages = json.get_mut("messages").map(Value::take);
        let messages = messages.context("there are no `messages`; give a file that /save has written")?;
        Ok(serde_json::from_value(messages)?)
    };
    read().with_context(|| path.display().to_string())
}
