//! The API of the coordinator as types and a client; offline token verification.
//!
//! Nodes speak to the coordinator over HTTP, also when both are one process: there is one code path.
#![forbid(unsafe_code)]

pub mod api;
mod bearer;
mod body;
mod client;
mod node_name;
mod problem;
mod token;

pub use bearer::bearer;
pub use body::{ReadError, read as read_body};
pub use client::{Client, ClientError, Outage};
pub use node_name::{certificate_name, node_of_certificate};
pub use problem::Problem;
/// The name in the URLs of the oldest players for the only class there is.
pub const DEFAULT_CLASS_ALIAS: &str = "stream";

pub use token::{
    Claims, KEYS_AGE_MAX, KeySet, LEEWAY_SECONDS, Marks, Revocation, Revocations, Revoked, Right, Role,
    TokenError, TokenVerifier,
};
