//! Any bytes as chunks: see `lectern_fuzz::chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lectern_fuzz::chunk(bytes));
