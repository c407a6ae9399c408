//! Development only: the real program and other programs as processes, and the wait for what they do.
#![forbid(unsafe_code)]

mod postgres;
mod process;
mod server;
mod until;

pub use postgres::Postgres;
pub use process::Process;
pub use server::{Addresses, Node, NodeAddresses, Server, launch, lectern_beside};
pub use until::until;
