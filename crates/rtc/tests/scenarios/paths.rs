//! The ways between a viewer and its shard: checks, restarts, moves, and datagrams that reach another shard.
use std::net::SocketAddr;
use std::time::Duration;

use rtc::CloseReason;
use rtc::sdp::Credentials;
use rtc::testing::Node;

use crate::keyed::Abilities;
use crate::lesson::Lesson;
use crate::network::Link;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn links() -> (Link, Link) {
    (Link::default(), Link::default())
}

/// A lesson with viewers that have been there for a second, on this many shards.
fn watched(shards: usize, viewers: usize) -> (World, rtc::StreamId) {
    let mut world = World::new(shards);
    let stream = world.publish(Lesson::default());
    for _ in 0..viewers {
        world.join_keyed(stream, links(), Abilities::ALL);
    }
    world.run(Duration::from_secs(1));
    (world, stream)
}

#[test]
fn media_follows_the_checks_of_a_viewer_to_its_new_address() {
    let (mut world, _) = watched(1, 2);
    let moved = SocketAddr::from(([10, 9, 9, 9], 999));
    world.move_to(0, moved);
    let check = world.keyed(0).check(true);
    world.keyed(0).blurt(check);
    world.drive(0);
    world.run(Duration::from_secs(2));
    assert!(world.screen(0).has_all_to(80), "a round trip of packets was lost and is healed");
    assert!(world.screen(1).has_all_to(80));
    assert_eq!(world.stats(0).resends_refused, 0);
}

#[test]
fn an_ice_restart_keeps_the_picture_while_the_new_way_is_found() {
    let (mut world, _) = watched(1, 1);
    let id = world.viewers[0].id;
    let local = world.node.handle.restart(id, keyed_credentials()).unwrap();
    world.run(ms(500));
    let responses = world.keyed(0).responses;
    let check = world.keyed(0).check(false);
    world.keyed(0).blurt(check);
    world.drive(0);
    world.run(ms(50));
    assert_eq!(
        world.keyed(0).responses,
        responses + 1,
        "the old credentials work until the new ones are used"
    );
    assert!(world.screen(0).has_all_to(40), "the old way goes on until the new one is used");
    world.move_to(0, SocketAddr::from(([10, 9, 9, 9], 999)));
    world.keyed(0).restart(local);
    world.drive(0);
    world.run(Duration::from_secs(40));
    assert_eq!(world.closed(0), None, "checks with the new credentials keep it alive");
    assert!(world.now - world.screen(0).shown.last().unwrap().whole < ms(100));
}

#[test]
fn after_two_restarts_in_a_row_the_newest_credentials_work() {
    let (mut world, _) = watched(1, 1);
    let id = world.viewers[0].id;
    let unused = world.node.handle.restart(id, keyed_credentials()).unwrap();
    let newest = world.node.handle.restart(id, keyed_credentials()).unwrap();
    assert_ne!(unused, newest);
    world.run(ms(50));
    let responses = world.keyed(0).responses;
    world.keyed(0).restart(newest);
    world.drive(0);
    world.run(ms(100));
    assert_eq!(world.keyed(0).responses, responses + 1);
    world.keyed(0).restart(unused);
    world.drive(0);
    world.run(ms(100));
    assert_eq!(world.keyed(0).responses, responses + 1, "those in between do not");
    assert!(world.screen(0).has_all_to(30));
}

#[test]
fn a_browser_restarts_ice_and_plays_on() {
    let mut world = World::new(2);
    let stream = world.publish(Lesson::default());
    let viewer = world.join(stream, Link::default(), Link::default());
    world.run(Duration::from_secs(1));
    world.restart(viewer);
    world.run(Duration::from_secs(40));
    assert_eq!(world.closed(viewer), None);
    let screen = world.screen(viewer);
    assert!(screen.has_all_to(1_200), "{:?}", screen.shown.last());
    assert!(screen.freezes(30).is_empty());
}

#[test]
fn datagrams_that_reach_another_shard_find_their_own() {
    let mut world = World::new(4);
    let stream = world.publish(Lesson::default());
    // The kernel gives all of them to one shard.
    world.socket = Some(0);
    let viewers: Vec<usize> = (0..8).map(|_| world.join(stream, Link::default(), Link::default())).collect();
    let mut of_shard = [0; 4];
    viewers.iter().for_each(|viewer| of_shard[Node::shard_of(world.viewers[*viewer].id)] += 1);
    assert_eq!(of_shard, [2; 4]);
    world.run(Duration::from_secs(2));
    for viewer in viewers {
        assert!(world.screen(viewer).has_all_to(55), "{viewer}");
    }
    let counters = world.node.handle.counters();
    assert!(counters.forwarded.value() > 50, "{}", counters.forwarded.value());
    assert_eq!(counters.forwards_dropped.value(), 0);
}

#[test]
fn who_comes_back_from_the_same_address_is_heard_although_its_old_session_lives_on_another_shard() {
    let mut world = World::new(2);
    let stream = world.publish(Lesson::default());
    world.socket = Some(0);
    let old = world.join(stream, Link::default(), Link::default());
    assert_eq!(Node::shard_of(world.viewers[old].id), 0);
    world.run(Duration::from_secs(2));
    // It crashes, and is there again before its consent has ended.
    world.viewers[old].up.blackouts = vec![Duration::ZERO..Duration::from_secs(3_600)];
    world.run(Duration::from_secs(6));
    world.again = Some(old);
    let new = world.join(stream, Link::default(), Link::default());
    assert_eq!(Node::shard_of(world.viewers[new].id), 1);
    world.run(Duration::from_secs(3));
    assert_eq!(world.closed(old), None);
    assert!(world.screen(new).shown.len() > 80, "{}", world.screen(new).shown.len());
}

#[test]
fn a_viewer_whose_datagrams_change_the_shard_amid_the_lesson_goes_on() {
    let (mut world, _) = watched(2, 1);
    world.viewers[0].down.loss = 0.05;
    for round in 0..4 {
        world.viewers[0].socket = round % 2;
        world.run(Duration::from_secs(1));
    }
    assert!(world.screen(0).has_all_to(140), "its requests for lost packets arrive");
    assert!(world.stats(0).resent > 10);
}

#[test]
fn a_flood_for_another_shard_does_not_lose_what_the_process_says() {
    let (mut world, _) = watched(2, 2);
    let leaver = world.viewers[0].id;
    let shard = Node::shard_of(leaver);
    let stranger = SocketAddr::from(([192, 0, 2, 1], 7));
    for _ in 0..50_000 {
        world.node.forward(shard, stranger, vec![0x80; 200]);
    }
    world.node.handle.remove(leaver);
    world.run(ms(50));
    assert_eq!(world.closed(0).map(|(_, reason)| reason), Some(CloseReason::Removed));
    assert!(world.node.handle.counters().forwards_dropped.value() > 40_000);
    world.run(Duration::from_secs(1));
    assert!(world.screen(1).has_all_to(55));
}

/// Those of a viewer with keys of its own, which stay.
fn keyed_credentials() -> Credentials {
    Credentials { ufrag: "remote".to_owned(), pwd: "password of the viewer".to_owned() }
}
