//! What holds for any bytes. The fuzz targets search for some for which it does not; `crates/rtmp/tests/corpus.rs` tries
//! the seeds in every `cargo test`.
#![forbid(unsafe_code)]

mod properties;

pub use properties::{amf0, chunk, session};
