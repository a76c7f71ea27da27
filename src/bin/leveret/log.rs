//! What the library tells while it works, on standard error.

use std::io::{self, Write};

use clap::{ArgAction, Args};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::time::uptime;
use tracing_subscriber::registry::LookupSpan;

/// How much of it is shown: nothing, unless asked for.
#[derive(Debug, Args)]
pub struct Log {
    /// Says what is done, on standard error; -vv also how long each read, upload and computation takes. RUST_LOG chooses
    /// otherwise, such as leveret=trace,cubecl=info.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Log {
    /// What writes it, if there is something to write.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> Option<impl Layer<S> + use<S>> {
        let targets = self.targets(std::env::var("RUST_LOG").ok())?;
        let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_timer(uptime());
        Some(layer.with_span_events(FmtSpan::CLOSE).with_filter(targets))
    }

    /// Flags say more than the environment.
    fn targets(&self, environment: Option<String>) -> Option<Targets> {
        let ours = |level| Targets::new().with_target("leveret", level).with_target("leveret_models", level);
        match (self.verbose, environment.filter(|text| !text.is_empty())) {
            (0, None) => None,
            (0, Some(text)) => match text.parse() {
                Ok(targets) => Some(targets),
                Err(error) => {
                    let _ = writeln!(io::stderr(), "warning: RUST_LOG is not understood: {error}");
                    None
                }
            },
            (1, _) => Some(ours(LevelFilter::DEBUG)),
            _ => Some(ours(LevelFilter::TRACE).with_default(LevelFilter::INFO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn shows(verbose: u8, environment: Option<&str>, target: &str, level: &Level) -> bool {
        let targets = Log { verbose }.targets(environment.map(str::to_owned));
        targets.is_some_and(|targets| targets.would_enable(target, level))
    }

    #[test]
    fn flags_and_environment_choose() {
        assert!(!shows(0, None, "leveret", &Level::ERROR) && !shows(0, Some(""), "leveret", &Level::ERROR));
        assert!(shows(0, Some("leveret=debug"), "leveret::model", &Level::DEBUG));
        assert!(!shows(0, Some("cubecl=info"), "leveret", &Level::ERROR));
        assert!(shows(1, Some("off"), "leveret", &Level::DEBUG) && !shows(1, None, "leveret", &Level::TRACE));
        assert!(shows(2, None, "leveret", &Level::TRACE) && shows(2, None, "cubecl", &Level::INFO));
    }
}
