//! Whose a path is, and which user name fragments lead to whom.
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::command::NewViewer;
use crate::ice::tests::{answer_to, credentials, request};
use crate::id::StreamId;
use crate::sdp::{Fingerprint, Terms};
use crate::seats::Seats;

const ADDRESS: ([u8; 4], u16) = ([192, 0, 2, 1], 5000);
const SILENCE: Duration = Duration::from_secs(5);

fn path() -> Path {
    Path::Udp { peer: ADDRESS.into(), local: None }
}

fn insert(table: &mut Table, now: Instant, ufrag: &str, number: u64) -> usize {
    let terms = Terms {
        remote: credentials("viewer"),
        remote_fingerprint: Fingerprint::new([0; 32]),
        video: None,
        audio: None,
    };
    let new = NewViewer {
        id: ViewerId { shard: 0, number },
        stream: StreamId(0),
        local: credentials(ufrag),
        terms,
        claim: Seats::new(1).claim().unwrap(),
    };
    table.insert(Peer::new(now, new, 1, &mut StdRng::seed_from_u64(1)))
}

fn check(table: &mut Table, now: Instant, slot: usize, ufrag: &str) -> Option<Answer> {
    let bytes = request(ufrag, &format!("password-of-{ufrag}"), true);
    table.on_check(now, slot, path(), ADDRESS.into(), &bytes, &mut Batch::default())
}

#[test]
fn the_end_of_a_viewer_leaves_its_former_address_to_who_has_it_now() {
    let now = Instant::now();
    let mut table = Table::default();
    let (first, second) = (insert(&mut table, now, "0a", 1), insert(&mut table, now, "0b", 2));
    for (slot, ufrag) in [(first, "0a"), (second, "0b")] {
        check(&mut table, now, slot, ufrag).unwrap();
        assert_eq!(table.slot_at(path()), Some(slot));
    }
    table.remove(first);
    assert_eq!(table.slot_at(path()), Some(second));
    table.remove(second);
    assert_eq!(table.slot_at(path()), None);
}

#[test]
fn a_check_takes_a_path_from_another_viewer_only_when_that_is_silent() {
    let now = Instant::now();
    let mut table = Table::default();
    let (owner, other) = (insert(&mut table, now, "0a", 1), insert(&mut table, now, "0b", 2));
    let probe = check(&mut table, now, owner, "0a").unwrap().probe.unwrap();
    table.drive(owner, |peer| assert!(peer.agent.on_answer(now, path(), &answer_to(&probe))));
    let later = now + SILENCE - Duration::from_millis(1);
    assert!(check(&mut table, later, other, "0b").is_some(), "it is answered, it may be honest");
    assert_eq!(table.slot_at(path()), Some(owner));
    assert_eq!(table.peer_mut(owner).unwrap().agent.selected(), Some(path()));
    table.remove(other);
    assert_eq!(table.slot_at(path()), Some(owner), "it never was the other's");
    let other = insert(&mut table, now, "0b", 3);
    check(&mut table, now + SILENCE, other, "0b").unwrap();
    assert_eq!(table.slot_at(path()), Some(other));
    assert_eq!(table.peer_mut(owner).unwrap().agent.selected(), None);
}

#[test]
fn fragments_lead_to_their_viewer_as_long_as_they_are_valid() {
    let now = Instant::now();
    let mut table = Table::default();
    let (slot, other) = (insert(&mut table, now, "0a", 1), insert(&mut table, now, "0b", 2));
    for ufrag in ["0c", "0d", "0e"] {
        table.restart(ViewerId { shard: 0, number: 1 }, credentials(ufrag), credentials("viewer"));
    }
    let slots = |table: &Table| ["0a", "0b", "0c", "0d", "0e"].map(|ufrag| table.slot_with(ufrag));
    assert_eq!(slots(&table), [Some(slot), Some(other), None, Some(slot), Some(slot)]);
    check(&mut table, now, slot, "0e").unwrap();
    assert_eq!(slots(&table), [None, Some(other), None, None, Some(slot)]);
    table.remove(slot);
    assert_eq!(slots(&table), [None, Some(other), None, None, None]);
}
