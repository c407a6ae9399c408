//! Whole connections in virtual time.
#![expect(clippy::disallowed_methods, reason = "one real instant, to which virtual time is added")]
#![expect(clippy::unwrap_used, reason = "the client is a test as much as what it serves")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers are the tests' own")]

mod amf;
mod chunks;
mod client;
mod dialogue;
mod hostile;
mod openings;
mod random;
