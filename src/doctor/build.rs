use std::path::Path;

use super::{Finding, Mark};

/// The backends of this build.
const BACKENDS: &[&str] = &[
    #[cfg(feature = "flex")]
    "flex",
    #[cfg(feature = "ndarray")]
    "ndarray",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "wgpu")]
    "wgpu",
];

/// What can compute in this build, and whether it passes an NVIDIA GPU by.
pub(super) fn backends() -> Finding {
    let found = Finding::ok("backends", BACKENDS.join(", "));
    if BACKENDS.is_empty() {
        return Finding { mark: Mark::Missing, found: "none".to_owned(), ..found }.next("build with --features flex");
    }
    let driver = ["/proc/driver/nvidia/version", "/dev/nvidia0"].into_iter().any(|path| Path::new(path).exists());
    match driver && !BACKENDS.contains(&"cuda") {
        true => Finding { mark: Mark::Note, ..found }.next("build with --features cuda to use the NVIDIA GPU here"),
        false => found,
    }
}
