//! What holds for any bytes. The fuzz targets search for some for which it does not; `crates/rtmp/tests/corpus.rs` and
//! `crates/link/tests/corpus.rs` try the seeds in every `cargo test`.
#![forbid(unsafe_code)]

mod links;
mod properties;

pub use links::{link_control, link_group};
pub use properties::{amf0, chunk, session};
