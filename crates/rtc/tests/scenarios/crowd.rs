//! Thousands of viewers at once.
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::keyed::Abilities;
use crate::lesson::{Lesson, Publisher};
use crate::network::Link;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A lesson of small pictures and viewers that say nothing.
fn crowd(viewers: usize) -> World {
    let mut world = World::new(1);
    let lesson = Lesson { keyframe: 12_000, bps: 300_000, group: 8, ..Lesson::default() };
    let stream = world.publish(lesson);
    for _ in 0..viewers {
        world.join_keyed(stream, (Link::default(), Link::default()), Abilities::NONE);
    }
    world
}

#[test]
fn three_thousand_viewers_get_every_keyframe_in_an_order_that_changes() {
    let mut world = crowd(3_000);
    world.run(ms(60));
    world.tap = Some(Vec::new());
    world.run(ms(260));
    for viewer in 0..3_000 {
        assert!(world.screen(viewer).has_all_to(8), "{viewer}: {:?}", world.screen(viewer).shown.len());
    }
    // Who comes first: of audio, which is one packet to a viewer.
    let mut firsts = HashMap::new();
    for (at, to, packet) in world.tap.iter().flatten() {
        if packet[1] & 0x7f == 111 {
            firsts.entry(*at).or_insert(*to);
        }
    }
    let different: HashSet<_> = firsts.values().collect();
    assert!(
        firsts.len() >= 12 && different.len() >= firsts.len() - 2,
        "{} of {}",
        different.len(),
        firsts.len()
    );
}

#[test]
fn viewers_that_leave_amid_a_turn_make_nobody_else_lose_audio() {
    let mut world = crowd(1_300);
    world.run(ms(100));
    let gone: Vec<usize> = (0..1_300).step_by(3).collect();
    let nobody = world.viewers[0].id;
    world.node.handle.remove(nobody);
    for _ in 0..254 {
        world.node.handle.remove(nobody);
    }
    // The last of the commands that are taken at once; those who leave are taken out after the first turn.
    let stream = world.publishers[0].stream;
    let at = world.publishers[0].next().unwrap();
    let frames = world.publishers[0].take(at);
    frames.iter().for_each(|frame| world.node.handle.send(stream, frame));
    for viewer in &gone {
        let id = world.viewers[*viewer].id;
        world.node.handle.remove(id);
    }
    world.run(ms(300));
    let mut others = (0..1_300).filter(|viewer| viewer % 3 != 0);
    assert!(gone.iter().all(|viewer| world.closed(*viewer).is_some()));
    assert!(others.all(|viewer| {
        let screen = world.screen(viewer);
        screen.audio_lost(world.began, world.now) == 0 && screen.audio.len() >= 15 && screen.has_all_to(8)
    }));
}

#[test]
fn a_shard_that_is_late_sends_everybody_what_has_come_meanwhile() {
    let mut world = crowd(500);
    world.run(ms(300));
    let stream = world.publishers[0].stream;
    let late = world.now + ms(400);
    // Frames come while the shard is busy elsewhere, and are taken in one pass.
    for frame in world.publishers[0].take(late) {
        world.node.handle.send(stream, &frame);
    }
    world.now = late;
    world.run(ms(300));
    for viewer in 0..500 {
        let screen = world.screen(viewer);
        assert!(screen.has_all_to(25), "{viewer}: {:?}", screen.shown.last());
        assert_eq!(screen.audio_lost(world.began, world.now), 0);
    }
}

#[test]
fn many_streams_go_side_by_side() {
    let mut world = World::new(2);
    let viewers: Vec<usize> = (0..40)
        .map(|_| {
            let stream = world.publish(Lesson { keyframe: 12_000, bps: 300_000, ..Lesson::default() });
            world.join_keyed(stream, (Link::default(), Link::default()), Abilities::ALL)
        })
        .collect();
    world.run(Duration::from_secs(1));
    let closed = world.publishers[7].stream;
    world.publishers[7].stop(world.now);
    world.node.handle.close_stream(closed);
    let again = world.node.handle.open_stream(world.now);
    world.publishers.push(Publisher::new(again, Lesson::default(), world.now, 3));
    world.run(Duration::from_secs(1));
    for viewer in viewers {
        assert_eq!(world.closed(viewer).is_some(), viewer == 7);
        assert!(viewer == 7 || world.screen(viewer).has_all_to(55), "{viewer}");
    }
}

#[test]
fn a_socket_that_is_full_for_a_moment_costs_nobody_anything() {
    let mut world = crowd(60);
    world.run(ms(300));
    // Amid the first frames of everybody and at a later keyframe.
    for room in [7, 30, 200] {
        world.run_until(world.began + world.since().max(ms(1_990)));
        world.node.socket_room = room;
        world.run(ms(60));
        assert_eq!(world.node.socket_room, 0, "the socket was full");
        world.node.socket_room = usize::MAX;
        world.run(ms(1_940));
    }
    assert_eq!(world.node.send_dropped, 0);
    for viewer in 0..60 {
        let (screen, stats) = (world.screen(viewer), world.stats(viewer));
        assert!(screen.has_all_to(230), "{viewer}: {:?}", screen.shown.last());
        assert_eq!(screen.audio_lost(world.began, world.now), 0);
        assert_eq!(stats.resent, 0, "it was never lost");
    }
}

#[test]
fn a_socket_that_stays_full_keeps_a_bounded_backlog_and_media_goes_on_afterwards() {
    let mut world = crowd(200);
    world.run(ms(500));
    world.node.socket_room = 0;
    world.run(Duration::from_secs(4));
    assert!(world.node.send_dropped > 1_000, "{}", world.node.send_dropped);
    assert!(world.node.backlog_bytes() < 4 << 20, "{}", world.node.backlog_bytes());
    world.node.socket_room = usize::MAX;
    world.run(Duration::from_secs(4));
    for viewer in 0..200 {
        let screen = world.screen(viewer);
        let settled = world.now - Duration::from_secs(1);
        assert_eq!(screen.audio_lost(settled, world.now), 0, "{viewer}");
        assert_eq!(screen.damaged.len(), 0, "{viewer}: no video is written that cannot leave");
        assert!(screen.shown.iter().filter(|shown| shown.whole > settled).count() >= 28, "{viewer}");
    }
}
