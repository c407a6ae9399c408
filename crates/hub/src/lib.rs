//! The streams of this process: publish, subscribe, GOP cache, drop policy.
//!
//! A stream is known by the name of its class. One publisher at a time feeds it; the next publisher with the same
//! name takes over and opens a new *epoch*, and nobody who watches has to move. When a publisher vanishes, the
//! stream waits for it through a grace period before it is forgotten.
#![forbid(unsafe_code)]

mod clock;
mod epoch;
mod gop;
mod keyframe;
mod place;
mod publisher;
mod queue;
mod registry;
mod source;
mod stats;
mod stream;

pub use clock::Clock;
pub use epoch::{Epoch, Timeline};
pub use keyframe::Keyframe;
pub use place::{Place, StreamFrame};
pub use publisher::{Publisher, Relay, Superseded};
pub use queue::{Subscription, Update};
pub use registry::{Changes, Hub, Limits, Refused};
pub use source::Source;
pub use stats::Stats;
pub use stream::{Problem, State, Status};
