//! Classes, keys, tokens, the stream directory and the web application.
#![forbid(unsafe_code)]

mod http;
mod keys;
mod metrics;
pub mod registry;
mod secret;
mod server;
pub mod store;
mod web;

pub use server::{BindError, Bound, Config, DefaultClass, Mode, bind};
