use std::path::Path;

use super::{Finding, Mark};
use crate::checkpoint::Checkpoint;
use crate::error::{AtPath, Error, human};
use crate::io::WeightFile;

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
    #[cfg(unix)]
    if let Ok(disk) = rustix::fs::statvfs(dir) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        findings.push(Finding::ok("disk", format!("{} free", human(free))));
    }
    #[cfg(target_os = "linux")]
    findings.push(super::direct_reads::finding(dir));
    findings.extend(checkpoint(dir));
    findings
}

fn checkpoint(dir: &Path) -> Option<Finding> {
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => checkpoint,
        Err(Error::NoCheckpoint { .. }) => return None,
        Err(error) => return Some(Finding::missing("checkpoint", &error)),
    };
    let weights = format!("{} of weights", human(checkpoint.bytes()));
    if !dir.join("config.json").is_file() {
        let found = Finding::ok("checkpoint", format!("{weights} without config.json"));
        return Some(Finding { mark: Mark::Missing, ..found }.next("download it into the same directory"));
    }
    let cached = match cached_percent(checkpoint.shards()) {
        0 => String::new(), // or the system does not tell
        percent => format!(", about {percent} % of them in the page cache"),
    };
    Some(Finding::ok("checkpoint", weights + &cached))
}

/// How much of these files lies in the page cache, by samples.
fn cached_percent(shards: &[WeightFile]) -> usize {
    let samples = shards.iter().flat_map(|shard| (0..shard.len()).step_by(STRIDE).map(move |offset| (shard, offset)));
    let (cached, all) = samples.fold((0, 0), |(cached, all), (shard, offset)| {
        (cached + usize::from(shard.is_cached(offset, SAMPLE)), all + 1)
    });
    100 * cached / all.max(1)
}
