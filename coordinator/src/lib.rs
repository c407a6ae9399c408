//! Classes, keys, tokens, the stream directory and the web application.
#![forbid(unsafe_code)]

mod config;
mod http;
mod keys;
mod metrics;
mod reach;
mod reaper;
pub mod registry;
mod secret;
mod server;
pub mod store;
mod web;

pub use config::{Config, ConfigError, Mode};
pub use reach::public_address;
pub use server::{BindError, Bound, DefaultClass, bind};
