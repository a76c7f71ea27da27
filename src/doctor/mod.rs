//! What there is to run models with: in the build, in the machine and on its disk.

mod build;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(target_os = "linux")]
mod direct_reads;
mod disk;
mod finding;
mod machine;

use std::path::Path;

pub use finding::{Finding, Mark};

/// Looks at the build, the machine and `dir`, which may be a checkpoint; a machine that lacks everything is no error.
pub fn doctor(dir: &Path) -> Vec<Finding> {
    let mut findings = vec![build::backends()];
    findings.extend(machine::findings());
    findings.extend(disk::findings(dir));
    #[cfg(feature = "cuda")]
    findings.extend(cuda::findings());
    findings
}
