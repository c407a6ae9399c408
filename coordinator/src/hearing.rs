//! Which nodes a coordinator hears, for who starts some of them.
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::app::App;

/// What a coordinator of this process hears; clones ask the same one.
#[derive(Clone)]
pub struct Hearing(pub(crate) Arc<App>);

impl Hearing {
    /// Whether a node of this name has been heard lately.
    pub fn is_heard(&self, node: &str) -> bool {
        self.0.registry().is_heard(Instant::now(), node)
    }
}

impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing").finish_non_exhaustive()
    }
}
