//! Numbers as people read them.

pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub fn gb(bytes: u64) -> String {
    match bytes {
        0..100_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

pub fn gb_per_second(rate: f64) -> String {
    match rate {
        0.0..1e9 => format!("{:.0} MB/s", rate / 1e6),
        _ => format!("{:.1} GB/s", rate / 1e9),
    }
}

pub fn percent(fraction: f64) -> String {
    format!("{:.0} %", 100.0 * fraction)
}

pub fn seconds(seconds: f64) -> String {
    match seconds {
        0.0..1.0 => format!("{:.1} ms", 1e3 * seconds),
        _ => format!("{seconds:.2} s"),
    }
}

/// Seconds for a token as a pace.
pub fn pace(seconds: f64) -> String {
    match seconds {
        0.0..1.0 => format!("{:.1} tok/s", 1.0 / seconds),
        _ => format!("{seconds:.1} s/token"),
    }
}

/// A count that cannot be none.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// A count that may be none.
pub fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number of at least 0".to_owned())
}
