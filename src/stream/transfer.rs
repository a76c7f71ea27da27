use std::str::FromStr;

use crate::error::{Error, Result};

/// How the next units' weights arrive while the present one computes; results are equal to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transfer {
    /// Each unit is read when it is needed.
    Sync,
    /// Units are read ahead and uploaded when they are needed. On a CPU there is no upload: the same as `Async`.
    Prefetch,
    /// Units are read and uploaded ahead.
    #[default]
    Async,
}

impl Transfer {
    /// The modes by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("sync", Self::Sync), ("prefetch", Self::Prefetch), ("async", Self::Async)];
}

impl FromStr for Transfer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, mode)| mode).ok_or_else(|| Error::Name {
            what: "transfer mode",
            found: name.to_owned(),
            expected: "sync, prefetch or async".to_owned(),
        })
    }
}
