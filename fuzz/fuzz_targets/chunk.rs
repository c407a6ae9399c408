//! Any bytes as chunks: an error, or messages within their bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut reader = rtmp::chunk::Reader::new(64 << 10, 16, 256 << 10);
    let mut rest = bytes;
    while let Ok(Some((used, message))) = reader.read(rest) {
        assert!(used > 0 && used <= rest.len());
        assert!(message.is_none_or(|message| message.body.len() <= 64 << 10));
        assert!(reader.buffered_bytes() <= 256 << 10);
        rest = &rest[used..];
    }
});
