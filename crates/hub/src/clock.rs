//! What time it is for a hub.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The machine's clock, or one that is set by hand: then a whole cluster runs in virtual time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Mutex<Instant>>>);

impl Clock {
    /// One that stands still until it is set.
    pub fn by_hand(now: Instant) -> Self {
        Self(Some(Arc::new(Mutex::new(now))))
    }

    /// Sets one that is set by hand.
    pub fn set(&self, now: Instant) {
        if let Some(clock) = &self.0 {
            *clock.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }

    /// What it shows.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Some(clock) => *clock.lock().unwrap_or_else(PoisonError::into_inner),
            None => Instant::now(),
        }
    }
}
