//! Any bytes as a connection: see `lectern_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lectern_fuzz::session(bytes));
