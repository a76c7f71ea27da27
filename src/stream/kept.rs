use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Units that stay in host memory and are uploaded from there in each pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    units: Mutex<HashMap<usize, Place>>,
    changed: Condvar,
}

/// What somebody who needs a unit is to do.
pub(crate) enum Claim {
    /// Take it.
    Here(Bytes),
    /// Bring it.
    Yours,
    /// Nothing any more.
    Stopped,
}

/// What is at a unit's place.
#[derive(Debug)]
enum Place {
    /// Somebody is bringing it.
    Claimed,
    Filled(Bytes),
}

impl Kept {
    fn units(&self) -> MutexGuard<'_, HashMap<usize, Place>> {
        self.0.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unit, if it is here. If it is not, whoever asks first has to bring it, and others wait until that is done or
    /// `stop` says that it never will be.
    pub(crate) fn claim(&self, unit: usize, stop: &AtomicBool) -> Claim {
        let mut units = self.units();
        loop {
            match units.get(&unit) {
                _ if stop.load(Ordering::SeqCst) => return Claim::Stopped,
                Some(Place::Filled(bytes)) => return Claim::Here(bytes.clone()),
                Some(Place::Claimed) => {}
                None => {
                    units.insert(unit, Place::Claimed);
                    return Claim::Yours;
                }
            }
            units = self.0.changed.wait(units).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts a unit into the place that was claimed for it.
    pub(crate) fn fill(&self, unit: usize, bytes: Bytes) {
        self.units().insert(unit, Place::Filled(bytes));
        self.0.changed.notify_all();
    }

    /// Lets those who wait look again whether they are to stop.
    pub(crate) fn wake(&self) {
        // Locked, so that nobody looks just before and waits just after.
        drop(self.units());
        self.0.changed.notify_all();
    }

    /// Lets go of all units but those that `stays` names, and of claims that were never honoured.
    pub(crate) fn retain(&self, stays: impl Fn(usize) -> bool) {
        self.units().retain(|unit, place| stays(*unit) && matches!(place, Place::Filled(_)));
    }
}
