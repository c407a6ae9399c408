//! Decisions that must never change: coordinators of different releases run side by side. The table comes
//! from an independent program (rapidhash by its definition in C, logarithms of 60 digits).

use super::*;

/// Viewers of the stream, stream, viewer, node.
const GOLDEN: [(u64, &str, &str, &str); 25] = [
    (0, "math", "ada", "waw-1"),
    (600, "math", "ada", "waw-1"),
    (900, "math", "bob", "par-1"),
    (2000, "math", "ada", "waw-1"),
    (2000, "math", "viewer-4d8f0c52-77aa-4b0e-8d3c", "fra-1"),
    (0, "physics", "ada", "waw-1"),
    (600, "physics", "ada", "waw-1"),
    (900, "physics", "bob", "waw-1"),
    (2000, "physics", "ada", "fra-1"),
    (2000, "physics", "viewer-4d8f0c52-77aa-4b0e-8d3c", "waw-1"),
    (0, "5b/english", "ada", "waw-1"),
    (600, "5b/english", "ada", "waw-1"),
    (900, "5b/english", "bob", "fra-2"),
    (2000, "5b/english", "ada", "fra-1"),
    (2000, "5b/english", "viewer-4d8f0c52-77aa-4b0e-8d3c", "fra-1"),
    (0, "stream-with-a-rather-long-name-0123456789", "ada", "fra-2"),
    (600, "stream-with-a-rather-long-name-0123456789", "ada", "fra-2"),
    (900, "stream-with-a-rather-long-name-0123456789", "bob", "fra-2"),
    (2000, "stream-with-a-rather-long-name-0123456789", "ada", "fra-2"),
    (2000, "stream-with-a-rather-long-name-0123456789", "viewer-4d8f0c52-77aa-4b0e-8d3c", "waw-1"),
    (0, "ßé中", "ada", "fra-2"),
    (600, "ßé中", "ada", "fra-1"),
    (900, "ßé中", "bob", "waw-1"),
    (2000, "ßé中", "ada", "par-1"),
    (2000, "ßé中", "viewer-4d8f0c52-77aa-4b0e-8d3c", "fra-1"),
];

fn five_nodes() -> Vec<Member> {
    [("fra-1", 10), ("fra-2", 10), ("par-1", 5), ("waw-1", 20), ("zrh-1", 1)]
        .map(|(n, c)| member(n, c))
        .to_vec()
}

#[test]
fn the_pinned_decisions_hold() {
    let assignment = cluster(five_nodes());
    for (viewers, stream, viewer, node) in GOLDEN {
        let found = place(&assignment, &Request { viewers, ..request(stream, viewer) });
        assert_eq!(found.as_deref(), Some(node), "{viewers} {stream} {viewer}");
    }
}
