//! The API of the coordinator as types and a client; offline token verification.
//!
//! Nodes speak to the coordinator over HTTP, also when both are one process: there is one code path.
#![forbid(unsafe_code)]

pub mod api;
mod body;
mod client;
mod problem;
mod token;

pub use client::{Client, ClientError, Outage};
pub use problem::Problem;
pub use token::{Claims, KeySet, Right, Role, TokenError, TokenVerifier};
