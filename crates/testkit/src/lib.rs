//! Development only: the real program and its helpers as processes.
#![forbid(unsafe_code)]

mod process;
mod server;

pub use process::Process;
pub use server::{Addresses, Server};
