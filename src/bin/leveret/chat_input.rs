use std::io::BufRead;

use anyhow::Result;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// Messages as the user types them, or as standard input has them line by line.
pub struct Input(Option<DefaultEditor>);

/// What begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

impl Input {
    /// With line editing and history where there is a terminal.
    pub fn new(terminal: bool) -> Result<Self> {
        Ok(Self(if terminal { Some(DefaultEditor::new()?) } else { None }))
    }

    /// The next message; none at the end of the input.
    pub fn message(&mut self) -> Result<Option<String>> {
        let Some(first) = self.line("> ")? else { return Ok(None) };
        let Some(start) = first.trim_start().strip_prefix(FENCE) else { return Ok(Some(first)) };
        let mut text = start.to_owned();
        while !text.contains(FENCE) {
            let Some(line) = self.line("  ")? else { break };
            text.push('\n');
            text.push_str(&line);
        }
        let end = text.find(FENCE).unwrap_or(text.len());
        Ok(Some(text[..end].trim_matches('\n').to_owned()))
    }

    fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        let Some(editor) = &mut self.0 else {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line)?;
            return Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()));
        };
        loop {
            match editor.readline(prompt) {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    return Ok(Some(line));
                }
                // An interrupted line is thrown away.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
