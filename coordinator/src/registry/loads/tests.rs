use std::net::Ipv4Addr;

use control::api::Heartbeat;

use super::*;
use crate::registry::{SILENCE_MAX, Wish};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CAPACITY: u64 = 1_000_000_000;

fn load(load_bps: u64) -> NodeLoad {
    NodeLoad { capacity_bps: CAPACITY, load_bps, ..NodeLoad::default() }
}

/// What a node says in its life that began at this time.
fn beat(registry: &mut Registry, now: Instant, node: &str, (started_at_ms, seq): (u64, u64), load_bps: u64) {
    let (node, load) = (node.to_owned(), load(load_bps));
    let heartbeat = Heartbeat { node, boot: started_at_ms, seq, started_at_ms, load, ..Heartbeat::default() };
    registry.on_heartbeat(now, HERE, heartbeat).unwrap();
}

fn report((started_at_ms, seq): (u64, u64), load_bps: u64) -> NodeReport {
    NodeReport { started_at_ms, seq, load: load(load_bps) }
}

/// What a node was last taken to carry.
fn carried(registry: &Registry, node: &str) -> u64 {
    registry.placement.members[node].report.load_bps
}

fn place(registry: &mut Registry, now: Instant) -> String {
    let wish = Wish { class: "room101", viewer: "ada", hint: None, excluded: &[], region: None };
    registry.place(now, &wish).map(|(node, _)| node.node.clone()).unwrap()
}

#[test]
fn a_node_that_the_source_says_is_full_gets_nobody_whatever_its_heartbeats_say() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    ["n1", "n2"].into_iter().for_each(|node| beat(&mut registry, now, node, (1, 1), 0));
    let first = place(&mut registry, now);
    assert!(registry.on_load(now, &first, &report((1, 2), CAPACITY)));
    let second = place(&mut registry, now);
    assert_ne!(first, second);
    beat(&mut registry, now, &first, (1, 3), 0);
    assert_eq!(place(&mut registry, now), second, "the source says it, not the heartbeat");
    // It is there as long as its heartbeats say so, and no longer.
    assert_eq!(registry.on_timeout(now + SILENCE_MAX), ["n1", "n2"]);
    assert!(!registry.on_load(now + SILENCE_MAX, &first, &report((1, 4), 0)));
    assert!(registry.nodes().is_empty());
}

#[test]
fn heartbeats_stand_in_for_a_silent_source_until_it_speaks_again() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    let names = |changes: SourceChanges| (changes.silent.concat(), changes.heard.concat());
    beat(&mut registry, at(0), "n1", (1, 1), 10);
    assert_eq!(carried(&registry, "n1"), 10, "until the source has said anything");
    assert!(registry.on_load(at(1), "n1", &report((1, 2), 20)));
    for second in 2..16 {
        beat(&mut registry, at(second), "n1", (1, second + 1), 1_000 + second);
        assert_eq!(names(registry.source_changes(at(second))), ("".into(), "".into()));
    }
    assert_eq!(carried(&registry, "n1"), 20);
    // It repeats itself, which says nothing.
    assert!(!registry.on_load(at(15), "n1", &report((1, 2), 30)));
    assert_eq!(names(registry.source_changes(at(16))), ("n1".into(), "".into()));
    assert_eq!(registry.count_unsourced(at(16)), 1);
    beat(&mut registry, at(16), "n1", (1, 17), 5_000);
    beat(&mut registry, at(17), "n1", (1, 18), 6_000);
    assert_eq!(carried(&registry, "n1"), 6_000);
    assert_eq!(names(registry.source_changes(at(17))), ("".into(), "".into()), "it is told once");
    // What it says first is older than what the heartbeats have said meanwhile, and does not count.
    assert!(registry.on_load(at(18), "n1", &report((1, 15), 40)));
    assert_eq!(names(registry.source_changes(at(18))), ("".into(), "n1".into()));
    assert_eq!(carried(&registry, "n1"), 6_000);
    beat(&mut registry, at(19), "n1", (1, 20), 9_000);
    assert!(registry.on_load(at(20), "n1", &report((1, 20), 70_000)));
    assert_eq!(carried(&registry, "n1"), 70_000);
}

#[test]
fn reports_that_are_late_repeated_or_of_a_former_life_are_not_taken() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    assert!(!registry.on_load(now, "n1", &report((1, 1), 0)), "no such member");
    registry.expect(now, "n1");
    assert!(!registry.on_load(now, "n1", &report((1, 1), 0)), "not heard yet");
    beat(&mut registry, now, "n1", (1, 1), 0);
    assert!(registry.on_load(now, "n1", &report((1, 5), 500_000)));
    for seq in [5, 4] {
        assert!(!registry.on_load(now, "n1", &report((1, seq), 900_000)), "{seq}");
    }
    assert_eq!(carried(&registry, "n1"), 500_000);
    // The node begins anew, and its source still says what it was before.
    beat(&mut registry, now, "n1", (2, 1), 7);
    assert_eq!(carried(&registry, "n1"), 7);
    assert!(!registry.on_load(now, "n1", &report((1, 6), 900_000)));
    assert_eq!(carried(&registry, "n1"), 7);
    assert!(registry.on_load(now, "n1", &report((2, 2), 90_000)), "it counts anew");
    assert_eq!(carried(&registry, "n1"), 90_000);
}

#[test]
fn a_source_that_never_says_anything_is_told_of_once_in_all_lives() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    beat(&mut registry, now, "n1", (1, 1), 10);
    let later = now + SOURCE_SILENCE_MAX;
    beat(&mut registry, later, "n1", (1, 2), 2_000);
    assert_eq!(carried(&registry, "n1"), 2_000);
    assert_eq!(registry.source_changes(later).silent, ["n1"]);
    assert_eq!(registry.source_changes(later), SourceChanges::default());
}

#[test]
fn metrics_are_where_the_node_listens_seen_from_here() {
    let metrics = |from: &str, listens: Option<&str>| {
        let listens = listens.map(|listens| listens.parse().unwrap());
        reachable(from.parse().unwrap(), listens).map(|address| address.to_string())
    };
    assert_eq!(metrics("127.0.0.1", Some("127.0.0.1:9090")).as_deref(), Ok("127.0.0.1:9090"));
    assert_eq!(metrics("192.0.2.7", Some("0.0.0.0:9090")).as_deref(), Ok("192.0.2.7:9090"));
    assert_eq!(metrics("2001:db8::7", Some("[::]:9090")).as_deref(), Ok("[2001:db8::7]:9090"));
    assert_eq!(metrics("192.0.2.7", Some("10.0.0.7:9090")).as_deref(), Ok("10.0.0.7:9090"));
    for loopback in ["127.0.0.1:9090", "[::1]:9090"] {
        let refused = metrics("192.0.2.7", Some(loopback)).unwrap_err();
        assert!(refused.to_string().contains("node.admin_listen"), "{refused}");
    }
    assert_eq!(metrics("192.0.2.7", None), Err(NotScrapable::Unsaid));
}
