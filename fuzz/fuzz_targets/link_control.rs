//! Any bytes from another node: see `lectern_fuzz::link_control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lectern_fuzz::link_control(bytes));
