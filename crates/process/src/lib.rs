//! The shell of a process: what every role needs to run and to be run.
#![forbid(unsafe_code)]

pub mod accept;
pub mod address;
pub mod admin;
pub mod clock;
pub mod config;
pub mod connections;
pub mod descriptors;
pub mod drain;
pub mod file;
pub mod limiter;
pub mod serve;
mod stall;
pub mod supervise;
pub mod telemetry;
pub mod tls;
