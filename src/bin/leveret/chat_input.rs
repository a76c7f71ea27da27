//! What is typed in a conversation.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::Result;
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::history;

/// Messages as the user types them, or as standard input has them line by line.
pub struct Input {
    editor: Option<DefaultEditor>,
    /// Where lines are kept for the next run.
    history: Option<PathBuf>,
}

/// What a user has said.
#[derive(Debug, PartialEq)]
pub enum Typed {
    /// A line, which may be a command.
    Line(String),
    /// Text between fences, which is none whatever it begins with.
    Text(String),
}

enum Line {
    Here(String),
    Interrupted,
    End,
}

/// What begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

impl Input {
    /// Lines of standard input.
    pub fn plain() -> Self {
        Self { editor: None, history: None }
    }

    /// With line editing at a terminal, and the lines of earlier runs if these are kept.
    pub fn terminal(keeps_history: bool) -> Result<Self> {
        let mut editor = DefaultEditor::with_config(Config::builder().max_history_size(1000)?.build())?;
        let history = if keeps_history { history::file() } else { None };
        if let Some(path) = &history {
            // There is none before the first run.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor: Some(editor), history })
    }

    /// The next message; none at the end of the input. An interrupted one is thrown away.
    pub fn message(&mut self) -> Result<Option<Typed>> {
        loop {
            let first = match self.line("> ")? {
                Line::Here(line) => line,
                Line::Interrupted => continue,
                Line::End => return Ok(None),
            };
            let Some(start) = first.trim_start().strip_prefix(FENCE) else { return Ok(Some(Typed::Line(first))) };
            if let Some(text) = self.fenced(start)? {
                return Ok(Some(Typed::Text(text)));
            }
        }
    }

    /// Text up to a fence, of which the beginning is there; none if it is interrupted.
    fn fenced(&mut self, start: &str) -> Result<Option<String>> {
        let mut text = start.to_owned();
        while !text.contains(FENCE) {
            match self.line("  ")? {
                Line::Here(line) => {
                    text.push('\n');
                    text.push_str(&line);
                }
                Line::Interrupted => return Ok(None),
                Line::End => {
                    warn(&format!("the input ends before {FENCE} does; what there is of the message is taken"));
                    text.push_str(FENCE);
                }
            }
        }
        let (text, rest) = text.split_once(FENCE).unwrap_or((&text, ""));
        if !rest.trim().is_empty() {
            warn(&format!("what follows {FENCE} is left out: {}", rest.trim()));
        }
        Ok(Some(text.trim_matches('\n').to_owned()))
    }

    fn line(&mut self, prompt: &str) -> Result<Line> {
        let Some(editor) = &mut self.editor else {
            let mut line = Vec::new();
            return Ok(match std::io::stdin().lock().read_until(b'\n', &mut line)? {
                0 => Line::End,
                _ => Line::Here(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
            });
        };
        match editor.readline(prompt) {
            Ok(line) => {
                let _ = editor.add_history_entry(&line);
                self.keep();
                Ok(Line::Here(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what is new of the history, line by line, so that a kill loses none.
    fn keep(&mut self) {
        let (Some(editor), Some(path)) = (&mut self.editor, &self.history) else { return };
        let made = history::make_folder(path).map_err(ReadlineError::from);
        if let Err(error) = made.and_then(|()| editor.append_history(path)) {
            warn(&format!("{}: {error}; what is typed is not kept", path.display()));
            self.history = None;
        }
    }
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {}", text.replace(char::is_control, " "));
}
