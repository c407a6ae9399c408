//! The hub through its public door.
mod lesson;
mod relay;
mod streams;
