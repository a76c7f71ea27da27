use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use leveret::PullEvent;

/// Bars on standard error, if it is a terminal: one for all of a download, and one for each file that comes.
#[derive(Debug, Default)]
pub struct Bars {
    screen: MultiProgress,
    drawn: Mutex<Drawn>,
}

#[derive(Debug, Default)]
struct Drawn {
    all: Option<ProgressBar>,
    files: HashMap<String, ProgressBar>,
    /// Warnings that need not be repeated.
    said: HashSet<String>,
}

impl Bars {
    /// Draws what has happened.
    pub fn show(&self, event: PullEvent<'_>) {
        let Drawn { all, files, said } = &mut *self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::FromCache { model, reason } => {
                self.say(&format!("warning: {model} is taken from the cache: {reason}"));
            }
            // Once for each thing that happens: it may happen often.
            PullEvent::AsksAgain { url, reason } if said.insert(format!("{url}: {reason}")) => {
                self.say(&format!("warning: {url}: {reason}; it is asked again"));
            }
            PullEvent::Retries { file, reason }
                if self.screen.is_hidden() && said.insert(format!("{file}: {reason}")) =>
            {
                self.say(&format!("warning: {file}: {reason}; the download goes on"));
            }
            PullEvent::Starts { model, bytes, there, .. } => *all = Some(self.add(model, bytes, there)),
            PullEvent::FileStarts { file, bytes, there } => {
                files.insert(file.to_owned(), self.add(file, bytes, there));
            }
            PullEvent::Arrived { file, bytes } => all.iter().chain(files.get(file)).for_each(|bar| bar.inc(bytes)),
            PullEvent::Retries { file, reason } => message(files.get(file), &format!("{file}: {reason}, again")),
            PullEvent::Waits { file } => message(all.as_ref(), &format!("{file}: another process downloads it")),
            PullEvent::FileEnds { file } => {
                files.remove(file).inspect(ProgressBar::finish_and_clear);
            }
            PullEvent::Ends => {
                all.take().inspect(ProgressBar::finish_and_clear);
            }
            _ => {}
        }
    }

    /// A line above the bars, or alone where there are none.
    fn say(&self, text: &str) {
        self.screen.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{}", text.replace(char::is_control, " "));
        });
    }

    fn add(&self, name: &str, bytes: u64, there: u64) -> ProgressBar {
        let template = "{bar:24} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left  {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.screen.add(ProgressBar::new(bytes).with_style(style).with_position(there));
        // What was there before says nothing of the rate: it is drawn once and forgotten.
        bar.tick();
        bar.reset_eta();
        message(Some(&bar), name);
        bar
    }
}

/// Text of others, as one line.
fn message(bar: Option<&ProgressBar>, text: &str) {
    if let Some(bar) = bar {
        bar.set_message(text.replace(char::is_control, " "));
    }
}
