//! The seeds of the fuzz targets, run by every `cargo test`. `cargo fuzz run chunk` goes on from them.
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    assert!(files.len() >= 6);
    files
}

#[test]
fn every_amf0_seed_is_read_or_refused() {
    for (path, bytes) in corpus("amf0") {
        let some = rtmp::amf0::read_some(&bytes);
        if let Ok(all) = rtmp::amf0::read_all(&bytes) {
            assert_eq!(all, some, "{}", path.display());
        }
    }
}

#[test]
fn every_chunk_seed_is_read_or_refused_within_bounds() {
    for (path, bytes) in corpus("chunk") {
        for piece in [1, 7, bytes.len().max(1)] {
            let mut reader = rtmp::chunk::Reader::new(64 << 10, 16, 256 << 10);
            let mut have = Vec::new();
            'feeding: for part in bytes.chunks(piece) {
                have.extend_from_slice(part);
                loop {
                    match reader.read(&have) {
                        Ok(Some((used, _))) => drop(have.drain(..used)),
                        Ok(None) => break,
                        Err(_) => break 'feeding,
                    }
                }
                assert!(reader.buffered_bytes() <= 256 << 10, "{}", path.display());
            }
        }
    }
}
