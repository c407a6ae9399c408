//! Classes, keys, tokens, the stream directory and the web application.
#![forbid(unsafe_code)]

mod ageing;
mod app;
pub mod assign;
pub mod authority;
mod bus;
mod classes;
mod config;
mod credential;
mod directory;
mod guesses;
mod hearing;
mod http;
mod keys;
mod lessons;
mod loads;
mod metrics;
mod openings;
mod operator;
mod pins;
mod reaper;
pub mod registry;
mod revocations;
mod seal;
mod secret;
mod server;
mod shared;
pub mod simulate;
pub mod store;
mod web;

pub use config::{Config, ConfigError, LINK_FOLDER, LoadSource, Mode};
pub use credential::NodeIdentity;
pub use hearing::Hearing;
pub use openings::Ledger;
pub use operator::{CallError, Operator};
pub use process::address::public as public_address;
pub use server::{BindError, Bound, DefaultClass, bind};
pub use shared::SharedError;
