//! Numbers behind the cursor while a reply comes.

use std::io::{self, IsTerminal};

use comfy_table::Table;
use leveret::Stats;
use unicode_width::UnicodeWidthStr;

use crate::units::{gb_per_second, pace};

/// What is drawn behind the newest token and taken away before the next one.
///
/// It stays on the cursor's line, so that nothing scrolls, and is left out where the line has no room for it.
#[derive(Debug, Default)]
pub struct LiveLine {
    /// Of the terminal, if there is one to draw on.
    columns: Option<usize>,
    /// Where the cursor is.
    column: usize,
    drawn: bool,
    tokens: usize,
}

impl LiveLine {
    /// One for a terminal, unless numbers are not wanted; what is printed elsewhere is the reply alone.
    pub fn new(quiet: bool) -> Self {
        let draws = !quiet && io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        // Some terminals say that they have none.
        let columns = Table::new().width().map(usize::from).filter(|columns| draws && *columns > 0);
        Self { columns, ..Self::default() }
    }

    /// A token's text, with the numbers of the last one taken away before it and those of this one drawn behind it.
    pub fn with(&mut self, text: &str, stats: &Stats) -> String {
        let Some(columns) = self.columns else { return text.to_owned() };
        let erased = if self.erase() { ERASE } else { "" };
        self.tokens += 1;
        let start = if text.contains('\n') { 0 } else { self.column };
        let last = text.rsplit('\n').next().unwrap_or_default();
        self.column = (start + last.width()) % columns;
        let numbers = numbers(self.tokens, stats);
        self.drawn = self.column + 2 + numbers.len() < columns;
        match self.drawn {
            true => format!("{erased}{text}\x1b7\x1b[2m  {numbers}\x1b[0m\x1b8"),
            false => format!("{erased}{text}"),
        }
    }

    /// What takes the last numbers away.
    pub fn end(&mut self) -> &'static str {
        if self.erase() { ERASE } else { "" }
    }

    fn erase(&mut self) -> bool {
        std::mem::take(&mut self.drawn)
    }
}

/// Clears the line behind the cursor.
const ERASE: &str = "\x1b[K";

fn numbers(tokens: usize, stats: &Stats) -> String {
    let Some(pass) = stats.decode.last() else { return format!("first token after {:.2} s", stats.ttft) };
    let read = match pass.read_bytes {
        0 => String::new(),
        bytes => format!(", reading {}", gb_per_second(bytes as f64 / pass.seconds)),
    };
    format!("{tokens} tokens, {}{read}", pace(pass.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(columns: Option<usize>) -> LiveLine {
        LiveLine { columns, ..LiveLine::default() }
    }

    #[test]
    fn elsewhere_the_reply_is_alone() {
        let mut line = live(None);
        assert_eq!((line.with("a reply", &Stats::default()).as_str(), line.end()), ("a reply", ""));
    }

    #[test]
    fn numbers_come_and_go() {
        let mut line = live(Some(80));
        let first = line.with("a", &Stats::default());
        assert_eq!(first, "a\x1b7\x1b[2m  first token after 0.00 s\x1b[0m\x1b8");
        assert!(line.with("b", &Stats::default()).starts_with("\x1b[Kb"));
        assert_eq!((line.end(), line.end()), (ERASE, ""));
    }

    #[test]
    fn nothing_is_drawn_where_it_would_not_fit() {
        let mut line = live(Some(40));
        assert_eq!(line.with("some text that is long", &Stats::default()), "some text that is long");
        assert!(line.with("\nnew", &Stats::default()).contains("first token"));
    }
}
