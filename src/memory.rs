//! How much memory there is, and how much of it may be used.

use std::fmt;
use std::str::FromStr;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::error::{Error, Result, human};

/// Memory that a model may take: weights, KV cache and activations together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Budget {
    /// What is free, less a margin for the rest of the system.
    #[default]
    Free,
    /// The least that runs.
    Min,
    /// So many bytes.
    Bytes(u64),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&human(*bytes)),
            Self::Min => f.write_str("min"),
            Self::Free => f.write_str("free"),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    /// Reads `min`, `free`, or a size such as `2GiB`, `400MiB`, `1.5GB` or a number of bytes.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Size { text: text.to_owned() };
        let lower = text.trim().to_ascii_lowercase();
        match lower.as_str() {
            "min" => return Ok(Self::Min),
            "free" => return Ok(Self::Free),
            _ => {}
        }
        let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let scale: u64 = match unit.trim() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * scale as f64;
        if bytes >= u64::MAX as f64 { Err(wrong()) } else { Ok(Self::Bytes(bytes as u64)) }
    }
}

/// A budget in bytes, as far as there is memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limit {
    /// What may be taken; the least that runs if none.
    pub(crate) bytes: Option<u64>,
    /// What can be had at all.
    pub(crate) available: u64,
}

impl Limit {
    /// Resolves a budget, once: what a model takes later must not count against it.
    pub(crate) fn new(budget: Budget, available: u64) -> Self {
        let bytes = match budget {
            Budget::Free => Some(less_a_margin(available)),
            Budget::Min => None,
            Budget::Bytes(bytes) => Some(bytes.min(available)),
        };
        Self { bytes, available }
    }

    /// The part of one of so many.
    pub(crate) fn shared_by(self, count: usize) -> Self {
        let part = |bytes: u64| bytes / count.max(1) as u64;
        Self { bytes: self.bytes.map(part), available: part(self.available) }
    }
}

/// What may be taken of `available` bytes: all but a tenth and at least 512 MiB for the rest of the system, or half
/// where there is little.
fn less_a_margin(available: u64) -> u64 {
    available - (available / 10).max(512 << 20).min(available / 2)
}

/// Bytes of host memory that can be had without swapping, also within a control group.
pub(crate) fn available() -> Result<u64> {
    let ram = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(ram))
        .map_err(|error| Error::FreeMemory { reason: error.to_string() })?;
    let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    Ok(system.available_memory().min(group))
}

/// The most memory that this process has had resident so far, in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let bytes = |text: &str| match text.parse() {
            Ok(Budget::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        assert_eq!(bytes("400MiB"), Some(400 << 20));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        assert_eq!(bytes("1.5 GB"), Some(1_500_000_000));
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!("MIN".parse::<Budget>().unwrap(), Budget::Min);
        for wrong in ["", "many", "2XB", "-1", "1.2.3G"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }
}
