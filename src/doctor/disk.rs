use std::path::Path;

use leveret_models::Architecture;
use leveret_models::registry::{self, Visitor};

use super::{Finding, Mark};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{AtPath, Error, Result, human};
use crate::io::{WeightFile, read_text};
use crate::tokenizer::Tokenizer;

/// A shard is looked at in places this far apart …
const STRIDE: usize = 64 << 20;
/// … and this long.
const SAMPLE: usize = 1 << 20;

/// The disk under `dir`, and the checkpoint if it is one.
pub(super) fn findings(dir: &Path) -> Vec<Finding> {
    if let Err(error) = std::fs::read_dir(dir).at(dir) {
        return vec![Finding::missing("disk", &error)];
    }
    let mut findings = Vec::new();
    if let Some(free) = crate::disk::free(dir) {
        findings.push(Finding::ok("disk", format!("{} free", human(free))));
    }
    #[cfg(target_os = "linux")]
    findings.push(super::direct_reads::finding(dir));
    let checkpoint = checkpoint(dir);
    let is_whole = checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.mark == Mark::Ok);
    findings.extend(checkpoint);
    findings.extend(if is_whole { tokenizer(dir) } else { None });
    findings
}

fn checkpoint(dir: &Path) -> Option<Finding> {
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => checkpoint,
        Err(Error::NoCheckpoint { .. }) if !dir.join("config.json").is_file() => return None,
        Err(error) => return Some(Finding::missing("checkpoint", &error)),
    };
    let weights = format!("{} of weights", human(checkpoint.bytes()));
    if !dir.join("config.json").is_file() {
        let found = Finding::ok("checkpoint", format!("{weights} without config.json"));
        return Some(Finding { mark: Mark::Missing, ..found }.next("download it into the same directory"));
    }
    if let Err(error) = architecture(&dir.join("config.json")) {
        return Some(Finding::missing("checkpoint", &error));
    }
    let cached = match cached_percent(checkpoint.shards()) {
        0 => String::new(), // or the system does not tell
        percent => format!(", about {percent} % of them in the page cache"),
    };
    Some(Finding::ok("checkpoint", weights + &cached))
}

/// What is amiss with turning text into token ids.
fn tokenizer(dir: &Path) -> Option<Finding> {
    match Tokenizer::from_dir(dir) {
        Ok(Some(_)) => None,
        Ok(None) => Some(Finding::missing("tokenizer", &Error::NoTokenizer { path: dir.to_owned() })),
        Err(error) => Some(Finding::missing("tokenizer", &error).next("download the file again")),
    }
}

/// An error unless this config is one of a model that can run.
fn architecture(path: &Path) -> Result<()> {
    struct Runs;
    impl Visitor for Runs {
        type Output = ();
        fn visit<A: Architecture>(self, _: A) {}
    }
    let text = read_text(path).at(path)?;
    Config::parse(path, &text)?;
    registry::open(&text, Runs).map_err(|error| Error::Config { path: path.to_owned(), error })
}

/// How much of these files lies in the page cache, by samples.
fn cached_percent(shards: &[WeightFile]) -> usize {
    let samples = shards.iter().flat_map(|shard| (0..shard.len()).step_by(STRIDE).map(move |offset| (shard, offset)));
    let (cached, all) = samples.fold((0, 0), |(cached, all), (shard, offset)| {
        (cached + usize::from(shard.is_cached(offset, SAMPLE)), all + 1)
    });
    100 * cached / all.max(1)
}
