//! Any bytes as AMF0: an error or values that survive being written and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = rtmp::amf0::read_some(bytes);
    if let Ok(values) = rtmp::amf0::read_all(bytes) {
        let mut written = Vec::new();
        values.iter().for_each(|value| rtmp::amf0::write(value, &mut written));
        let _ = rtmp::amf0::read_all(&written);
    }
});
