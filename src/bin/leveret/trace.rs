//! A trace of readers, uploads and computation, for Perfetto (ui.perfetto.dev) or chrome://tracing.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::log::Log;

/// A trace that is being taken.
pub struct Trace {
    path: PathBuf,
    file: File,
    events: Events,
    guard: FlushGuard,
}

/// What has been taken so far: written at the end, when a full disk can still be told of.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<u8>>>);

impl Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Trace {
    /// Listens from now on: takes a trace for a file that can be written, and tells what the log is to tell.
    pub fn start(path: Option<&Path>, log: &Log) -> Result<Option<Self>> {
        let Some(path) = path else {
            if let Some(log) = log.layer() {
                tracing_subscriber::registry().with(log).init();
            }
            return Ok(None);
        };
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let events = Events::default();
        let (layer, guard) = ChromeLayerBuilder::new().writer(events.clone()).include_args(true).build();
        let ours = Targets::new().with_target("leveret", LevelFilter::TRACE);
        tracing_subscriber::registry().with(layer.with_filter(ours)).with(log.layer()).init();
        Ok(Some(Self { path: path.to_owned(), file, events, guard }))
    }

    /// Writes the trace; the threads that it is about have ended.
    pub fn finish(mut self) -> Result<()> {
        drop(self.guard);
        let events = self.events.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.file
            .write_all(&events)
            .and_then(|()| self.file.sync_all())
            .with_context(|| self.path.display().to_string())
    }
}
