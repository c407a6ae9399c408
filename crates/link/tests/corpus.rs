//! The seeds of the fuzz targets, held against the targets' own properties by every `cargo test`, and damaged ones of them.
//! `cargo fuzz run link_group` searches for more, with a nightly compiler.
use std::path::Path;

#[path = "../../../fuzz/src/links.rs"]
#[expect(unreachable_pub, reason = "the crate of the fuzz targets is the other user")]
mod properties;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let seeds: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| std::fs::read(entry.expect("a seed").path()).expect("a seed"))
        .collect();
    assert!(!seeds.is_empty(), "{}", folder.display());
    seeds
}

/// Every byte of every seed in turn is another one, and every seed ends at every place.
fn damaged(target: &str, property: fn(&[u8])) {
    for seed in seeds(target) {
        property(&seed);
        for at in 0..seed.len() {
            property(&seed[..at]);
            for flip in [1, 0x80, 0xff] {
                let mut other = seed.clone();
                other[at] ^= flip;
                property(&other);
            }
        }
    }
}

#[test]
fn any_bytes_are_messages_or_an_error() {
    damaged("link_control", properties::link_control);
}

#[test]
fn any_bytes_are_a_group_or_an_error() {
    damaged("link_group", properties::link_group);
}
