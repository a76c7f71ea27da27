use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::Finding;
use crate::error::{Result, human};
use crate::memory::{self, Budget, Limit};

/// Where Linux says who gets huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The CPU and its memory.
pub(super) fn findings() -> impl Iterator<Item = Finding> {
    let ram = ram().unwrap_or_else(|error| Finding::missing("RAM", &error));
    // Where there is no such file, the system has no such choice.
    let huge_pages = std::fs::read_to_string(HUGE_PAGES).ok().map(|choice| huge_pages(&choice));
    [cpu(), ram].into_iter().chain(huge_pages)
}

fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    #[cfg(feature = "flex")]
    return match leveret_models::cpu_instructions() {
        Some(instructions) => Finding::ok("CPU", format!("{cores} logical cores, kernels for {instructions}")),
        None => {
            Finding::note("CPU", format!("{cores} logical cores without SIMD that is known: slower, portable kernels"))
        }
    };
    #[cfg(not(feature = "flex"))]
    Finding::ok("CPU", format!("{cores} logical cores"))
}

fn ram() -> Result<Finding> {
    let available = memory::available()?;
    let total = total().map_or(String::new(), |total| format!(" of {}", human(total)));
    let free = Limit::new(Budget::Free, available).bytes.unwrap_or_default();
    Ok(Finding::ok("RAM", format!("{} available{total}, --ram free takes up to {}", human(available), human(free))))
}

/// Bytes of host memory, or of the part that a control group may have.
fn total() -> Option<u64> {
    let ram = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(ram)).ok()?;
    let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    Some(system.total_memory().min(group))
}

/// Of all choices, the present one is in brackets: `always [madvise] never`.
fn huge_pages(choices: &str) -> Finding {
    let choice = choices.split(['[', ']']).nth(1).unwrap_or(choices.trim());
    match choice {
        "never" => Finding::note("huge pages", "never: direct reads run at half the rate into small pages")
            .next(format!("echo madvise | sudo tee {HUGE_PAGES}")),
        _ => Finding::ok("huge pages", choice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    #[test]
    fn huge_pages_are_missed_where_they_are_never_given() {
        let mark = |choices| huge_pages(choices).mark;
        assert_eq!(mark("always madvise [never]\n"), Mark::Note);
        assert_eq!(huge_pages("always [madvise] never\n"), Finding::ok("huge pages", "madvise"));
        assert_eq!(mark("[always] madvise never\n"), Mark::Ok);
        assert_eq!(mark(""), Mark::Ok);
    }
}
