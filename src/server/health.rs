use std::any::Any;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long a failed pass counts.
const FRESH: Duration = Duration::from_secs(60);

/// Whether replies can be computed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// What the thread that runs the model ended with.
    ended: OnceLock<String>,
    /// Why the last pass failed, where the next is likely to fail too.
    failing: Mutex<Option<(Instant, String)>>,
}

impl Health {
    /// Takes note of a panic of the thread that runs the model.
    pub(super) fn ended_with(&self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let _ = self.ended.set(text.unwrap_or("it did not tell why").to_owned());
    }

    /// Why the thread that runs the model ended, if it has.
    pub(super) fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    /// Takes note of a pass: what a request brings with it says nothing of others, what weights and devices do, does.
    pub(super) fn passed<T>(&self, pass: &Result<T, Error>) {
        let of_all = |error: &&Error| {
            use Error::{Changed, Coming, Device, Io, ReaderStopped};
            matches!(error, Changed { .. } | Coming { .. } | Device { .. } | Io { .. } | ReaderStopped)
        };
        let failing = pass.as_ref().err().filter(of_all).map(Error::to_string);
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing.map(|reason| (Instant::now(), reason));
    }

    /// Why replies cannot be computed, if they cannot.
    pub(super) fn reason(&self) -> Option<String> {
        // Who sends no requests where health is bad would never find out that it has passed.
        let fresh = |(at, reason): (Instant, String)| (at.elapsed() < FRESH).then_some(reason);
        let failing = || self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone().and_then(fresh);
        match self.ended() {
            Some(reason) => Some(format!("the thread that runs the model ended: {reason}")),
            None => failing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_for_all_counts_and_may_pass() {
        let health = Health::default();
        health.passed::<()>(&Err(Error::NonFinite { place: "layer 3".to_owned(), is_widest: false }));
        assert_eq!(health.reason(), None);
        health.passed::<()>(&Err(Error::ReaderStopped));
        assert!(health.reason().is_some());
        health.passed(&Ok(()));
        assert_eq!(health.reason(), None);
        if let Some(before) = Instant::now().checked_sub(FRESH) {
            *health.failing.lock().unwrap() = Some((before, "long past".to_owned()));
            assert_eq!(health.reason(), None);
        }
        health.ended_with(&"the device has gone");
        health.passed(&Ok(()));
        assert!(health.reason().is_some_and(|reason| reason.contains("the device has gone")));
    }
}
