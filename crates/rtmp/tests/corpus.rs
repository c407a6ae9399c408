//! The seeds of the fuzz targets, held against the targets' own properties by every `cargo test`. `cargo fuzz run session`
//! goes on from them.
#![expect(clippy::disallowed_methods, reason = "a session needs one real instant to begin with")]

#[path = "../../../fuzz/src/properties.rs"]
#[expect(unreachable_pub, reason = "the crate of the fuzz targets is the other user")]
mod properties;

use std::path::Path;

fn hold(target: &str, property: fn(&[u8]), seeds_min: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is part of the project") {
        let path = entry.expect("a seed").path();
        property(&std::fs::read(&path).expect("a seed"));
        seeds += 1;
    }
    assert!(seeds >= seeds_min, "{seeds} seeds");
}

#[test]
fn amf0_seeds_are_values_or_errors() {
    hold("amf0", properties::amf0, 7);
}

#[test]
fn chunk_seeds_are_messages_or_errors_however_they_arrive() {
    hold("chunk", properties::chunk, 7);
}

#[test]
fn session_seeds_are_connections_or_errors() {
    hold("session", properties::session, 3);
}
