//! The streams of this process: publish, subscribe, GOP cache, drop policy.
//!
//! A stream is known by the name of its class. One publisher at a time feeds it; the next publisher with the same
//! name takes over and opens a new *epoch*, and nobody who watches has to move. When a publisher vanishes, the
//! stream waits for it through a grace period before it is forgotten.
#![forbid(unsafe_code)]

mod gop;
mod publisher;
mod queue;
mod registry;
mod stats;
mod stream;

pub use publisher::{Publisher, Superseded};
pub use queue::{Subscription, Update};
pub use registry::{Full, Hub, Limits};
pub use stats::Stats;
pub use stream::{Problem, State, Status};
