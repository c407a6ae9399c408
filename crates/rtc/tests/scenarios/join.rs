//! Joins, at every moment.
use std::time::Duration;

use rtc::CloseReason;

use crate::keyed::Abilities;
use crate::lesson::Lesson;
use crate::network::Link;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How many frames of a lesson at 30 frames a second were made by now, less those on their way.
fn newest(world: &World) -> u64 {
    u64::try_from(world.since().as_millis()).unwrap() * 30 / 1_000 - 2
}

#[test]
fn a_viewer_sees_the_keyframe_and_everything_after_it() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    world.run(ms(1_500));
    let viewer = world.join(stream, Link::default(), Link::default());
    world.run(Duration::from_secs(5));
    let screen = world.screen(viewer);
    assert_eq!(screen.shown[0].number, 0);
    assert!(screen.has_all_to(newest(&world)), "{:?}", screen.shown.last());
    assert!(screen.shown[0].whole - world.viewers[viewer].joined < ms(120));
    assert_eq!(screen.audio_lost(world.began, world.now), 0);
    assert!(screen.audio.len() > 240, "{}", screen.audio.len());
    assert!(screen.freezes(30).is_empty());
}

#[test]
fn joins_at_any_place_of_a_long_group_see_all_of_it() {
    let mut world = World::new(2);
    let stream = world.publish(Lesson::with_group(10));
    world.run(ms(200));
    let viewers: Vec<usize> = (0..10)
        .map(|_| {
            let viewer = world.join(stream, Link::default(), Link::default());
            world.run(ms(1_003));
            viewer
        })
        .collect();
    for viewer in viewers {
        let first = world.screen(viewer).shown[0];
        assert!(first.is_keyframe && first.number.is_multiple_of(300), "{first:?}");
        assert!(world.screen(viewer).has_all_to(newest(&world)), "{first:?}");
        assert!(first.whole - world.viewers[viewer].joined < ms(120), "{first:?}");
    }
}

#[test]
fn a_join_while_a_keyframe_is_being_sent_begins_with_it() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    for offset in 0..10 {
        world.run_until(world.began + ms(1_935 + 8 * offset));
        world.join(stream, Link::default(), Link::default());
    }
    world.run(ms(500));
    for viewer in 0..10 {
        // Who came right before it may have got a part of the group that it ends.
        let shown: Vec<u64> = world.screen(viewer).shown.iter().map(|shown| shown.number).collect();
        let from = shown.iter().position(|number| *number == 60).expect("the keyframe is shown");
        let all: Vec<u64> = (60..=newest(&world)).collect();
        assert!(shown[from..].starts_with(&all), "{viewer}: {shown:?}");
    }
}

#[test]
fn who_joins_before_the_first_keyframe_sees_it_when_it_comes() {
    let mut world = World::new(1);
    let stream = world.node.handle.open_stream(world.now);
    let early = world.join(stream, Link::default(), Link::default());
    world.run(ms(700));
    assert!(world.screen(early).shown.is_empty());
    let mut publisher = crate::lesson::Publisher::new(stream, Lesson::default(), world.now, 1);
    publisher.stop(world.now + Duration::from_secs(2));
    world.publishers.push(publisher);
    world.run(Duration::from_secs(2));
    assert_eq!(world.screen(early).shown[0].number, 0);
    assert!(world.screen(early).has_all_to(58));
}

#[test]
fn frames_and_feedback_go_on_while_a_handshake_is_away() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    world.run(ms(100));
    let there = world.join(stream, Link::default(), Link::default());
    world.run(Duration::from_secs(1));
    world.node.handshake_time = ms(150);
    let late = world.join(stream, Link::default(), Link::default());
    world.run(Duration::from_secs(2));
    assert!(world.screen(late).has_all_to(newest(&world)));
    assert!(world.screen(there).has_all_to(newest(&world)));
    assert!(world.screen(there).freezes(30).is_empty());
}

#[test]
fn handshakes_that_are_refused_are_repeated_and_succeed() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    world.node.handshake_time = ms(5);
    world.node.handshakes_max = 1;
    let viewers: Vec<usize> = (0..8).map(|_| world.join(stream, Link::default(), Link::default())).collect();
    world.run(Duration::from_secs(12));
    assert!(world.node.handle.counters().handshakes_refused.value() > 0);
    for viewer in viewers {
        assert!(world.screen(viewer).shown.len() > 30, "{viewer}");
    }
}

#[test]
fn when_our_last_flight_is_lost_media_begins_anew_once_it_is_understood() {
    for losses in 1_u32..4 {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::with_group(20));
        world.run(ms(1_200));
        // RFC 5246, section 6.2.1: 20 is the change of the cipher, with which the server's last flight begins.
        let last_flight: fn(&[u8]) -> bool = |packet| packet.first() == Some(&20);
        let count = usize::try_from(losses).unwrap();
        let down = Link { lost_kind: Some((last_flight, count)), ..Link::default() };
        let viewer = world.join(stream, Link::default(), down);
        world.run(Duration::from_secs(13));
        assert_eq!(world.viewers[viewer].down.seen.dropped, count);
        let screen = world.screen(viewer);
        let first = screen.shown.first().expect("a picture before the next keyframe is made");
        assert_eq!(first.number, 0);
        // The browser repeats its own after about one, two and four seconds.
        let took = first.whole - world.viewers[viewer].joined;
        assert!(took < ms(1_500 << losses), "{took:?} after {losses} losses");
        assert!(screen.has_all_to(200), "after {losses} losses");
        assert_eq!(screen.cut, 0);
    }
}

#[test]
fn eleven_of_twelve_joins_over_a_lossy_network_succeed() {
    let mut world = World::new(2);
    let stream = world.publish(Lesson::default());
    let lossy = || Link { loss: 0.05, jitter: ms(20), ..Link::default() };
    let viewers: Vec<usize> = (0..12).map(|_| world.join(stream, lossy(), lossy())).collect();
    world.run(Duration::from_secs(9));
    let shown: Vec<usize> = viewers.iter().map(|viewer| world.screen(*viewer).shown.len()).collect();
    // str0m repeats its side of a handshake after one, two and four seconds, and gives up losses soon: one may lack luck.
    assert!(shown.iter().filter(|count| **count == 0).count() <= 1, "{shown:?}");
    assert!(shown.iter().sum::<usize>() > 12 * 60, "{shown:?}");
}

#[test]
fn who_never_comes_is_given_up_after_half_a_minute() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson { has_audio: false, fps: 1, group: 1, ..Lesson::default() });
    let dead = Link { blackouts: vec![Duration::ZERO..Duration::MAX], ..Link::default() };
    let viewer = world.join(stream, dead, Link::default());
    world.run(Duration::from_secs(29));
    assert_eq!((world.closed(viewer), world.node.handle.viewers()), (None, 1));
    world.run(Duration::from_secs(2));
    assert_eq!(world.closed(viewer).map(|(_, reason)| reason), Some(CloseReason::NeverConnected));
    assert_eq!(world.node.handle.viewers(), 0, "its seat is free");
}

#[test]
fn a_viewer_that_falls_silent_loses_its_seat_and_one_that_only_checks_does_not() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson { has_audio: false, fps: 1, group: 1, ..Lesson::default() });
    let silent = Link { blackouts: vec![Duration::from_secs(5)..Duration::MAX], ..Link::default() };
    let silent = world.join(stream, silent, Link::default());
    let quiet = world.join_keyed(stream, (Link::default(), Link::default()), Abilities::NONE);
    world.run(Duration::from_secs(60));
    let (at, reason) = world.closed(silent).expect("it is closed");
    assert_eq!(reason, CloseReason::Lost);
    let since = at - world.began;
    assert!(since > Duration::from_secs(30) && since < Duration::from_secs(36), "{since:?}");
    assert_eq!(world.closed(quiet), None);
}

#[test]
fn a_browser_that_leaves_is_gone_at_once() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let leaver = world.join(stream, Link::default(), Link::default());
    let stayer = world.join(stream, Link::default(), Link::default());
    world.run(ms(800));
    world.browser(leaver).rtc().close().unwrap();
    world.drive(leaver);
    world.run(ms(100));
    assert_eq!(world.closed(leaver).map(|(_, reason)| reason), Some(CloseReason::Left));
    world.run(ms(1_000));
    assert!(world.screen(stayer).has_all_to(newest(&world)));
    assert_eq!(world.node.handle.viewers(), 1);
}
