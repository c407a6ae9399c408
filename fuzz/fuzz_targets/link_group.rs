//! Any bytes from another node: see `lectern_fuzz::link_group`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lectern_fuzz::link_group(bytes));
