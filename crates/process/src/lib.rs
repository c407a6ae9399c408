//! The shell of a process: what every role needs to run and to be run.
#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
pub mod clock;
pub mod config;
pub mod drain;
pub mod limiter;
pub mod telemetry;
