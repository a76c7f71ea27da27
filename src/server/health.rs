use std::any::Any;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::Error;

/// Whether replies can be computed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// What the thread that runs the model ended with.
    ended: OnceLock<String>,
    /// Why the last pass failed, where the next is likely to fail too.
    failing: Mutex<Option<String>>,
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
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }

    /// Why replies cannot be computed, if they cannot.
    pub(super) fn reason(&self) -> Option<String> {
        let failing = || self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
        health.passed::<()>(&Err(Error::NonFinite { place: "layer 3".to_owned() }));
        assert_eq!(health.reason(), None);
        health.passed::<()>(&Err(Error::ReaderStopped));
        assert!(health.reason().is_some());
        health.passed(&Ok(()));
        assert_eq!(health.reason(), None);
        health.ended_with(&"the device has gone");
        health.passed(&Ok(()));
        assert!(health.reason().is_some_and(|reason| reason.contains("the device has gone")));
    }
}
