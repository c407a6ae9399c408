//! Requests to an HTTP server, and what it is held against: parts of `lectern-load bench`, which runs each as a process of its own.
pub(crate) mod bare;
mod conversation;
pub(crate) mod nodes;
pub(crate) mod requests;
