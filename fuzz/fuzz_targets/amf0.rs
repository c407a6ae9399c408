//! Any bytes as AMF0: see `lectern_fuzz::amf0`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lectern_fuzz::amf0(bytes));
