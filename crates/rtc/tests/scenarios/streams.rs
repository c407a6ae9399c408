//! Streams that open, change their publisher, and end.
use std::time::Duration;

use rtc::CloseReason;

use crate::keyed::Abilities;
use crate::lesson::{Lesson, Publisher};
use crate::network::Link;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn links() -> (Link, Link) {
    (Link::default(), Link::default())
}

#[test]
fn another_publisher_goes_on_with_the_stream_and_its_viewers_play_on() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let browser = world.join(stream, Link::default(), Link::default());
    let keyed = world.join_keyed(stream, links(), Abilities::ALL);
    world.run(ms(2_500));
    world.publishers[0].stop(world.now);
    world.run(Duration::from_secs(2));
    let (now, began) = (world.now, world.began);
    world.publishers[0].take_over(now, began, Lesson { sps: 9, fps: 25, group: 50, ..Lesson::default() });
    world.run(Duration::from_secs(3));
    for viewer in [browser, keyed] {
        let screen = world.screen(viewer);
        assert!(screen.has_all_to(140), "{:?}", screen.shown.last());
        assert_eq!(screen.shown.last().unwrap().sps, 9, "the parameter sets are the new ones");
        let steps = screen.shown.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
        assert!(steps.clone().all(|step| step > 0 && step < 6 * 90_000), "time goes forward");
        assert_eq!(steps.filter(|step| *step > 90_000).count(), 1, "and leaps once");
    }
}

#[test]
fn who_joins_while_the_publisher_is_away_sees_the_last_pictures_and_then_the_next() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    world.run(ms(2_500));
    world.publishers[0].stop(world.now);
    world.run(Duration::from_secs(5));
    let viewer = world.join(stream, Link::default(), Link::default());
    world.run(Duration::from_secs(1));
    assert_eq!(world.screen(viewer).shown.last().unwrap().number, 75);
    let (now, began) = (world.now, world.began);
    world.publishers[0].take_over(now, began, Lesson { sps: 9, ..Lesson::default() });
    world.run(Duration::from_secs(2));
    let screen = world.screen(viewer);
    assert!(screen.has_all_to(130) && screen.shown.last().unwrap().sps == 9);
    let stamps: Vec<u32> =
        screen.shown.iter().map(|shown| shown.timestamp.wrapping_sub(screen.shown[0].timestamp)).collect();
    assert!(stamps.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_stream_that_closes_takes_its_viewers_along_and_leaves_the_others() {
    let mut world = World::new(2);
    let (ends, stays) = (world.publish(Lesson::default()), world.publish(Lesson::default()));
    let gone: Vec<usize> = (0..4).map(|_| world.join(ends, Link::default(), Link::default())).collect();
    let there: Vec<usize> = (0..4).map(|_| world.join(stays, Link::default(), Link::default())).collect();
    world.run(Duration::from_secs(1));
    world.publishers[0].stop(world.now);
    world.node.handle.close_stream(ends);
    world.run(Duration::from_secs(1));
    for viewer in gone {
        assert_eq!(world.closed(viewer).map(|(_, reason)| reason), Some(CloseReason::StreamEnded));
        assert!(!world.browser(viewer).rtc().is_alive(), "the browser was told");
    }
    for viewer in there {
        assert!(world.screen(viewer).has_all_to(55), "{viewer}");
    }
    let late = world.join(ends, Link::default(), Link::default());
    world.run(ms(100));
    assert_eq!(world.closed(late).map(|(_, reason)| reason), Some(CloseReason::StreamEnded));
    assert_eq!(world.node.handle.viewers(), 4);
}

#[test]
fn a_drain_says_goodbye_to_everybody() {
    let mut world = World::new(2);
    let stream = world.publish(Lesson::default());
    let viewers: Vec<usize> = (0..6).map(|_| world.join(stream, Link::default(), Link::default())).collect();
    world.run(Duration::from_secs(1));
    world.node.handle.drain();
    world.run(ms(200));
    for viewer in viewers {
        assert_eq!(world.closed(viewer).map(|(_, reason)| reason), Some(CloseReason::Drained));
        assert!(!world.browser(viewer).rtc().is_alive(), "the browser was told");
    }
    assert_eq!(world.node.handle.viewers(), 0);
}

#[test]
fn the_first_frame_of_a_stream_that_opens_amid_a_long_pass_is_not_lost() {
    let mut world = World::new(1);
    let busy = world.publish(Lesson { keyframe: 12_000, bps: 300_000, ..Lesson::default() });
    for _ in 0..200 {
        world.join_keyed(busy, links(), Abilities::NONE);
    }
    world.run(ms(100));
    // As many commands as are taken at once, of which the last brings work in turns; then the new stream.
    let nobody = world.viewers[0].id;
    world.node.handle.remove(nobody);
    for _ in 0..254 {
        world.node.handle.remove(nobody);
    }
    world.publishers.clear();
    let mut publisher = Publisher::new(busy, Lesson::default(), world.now, 2);
    for frame in publisher.take(world.now) {
        world.node.handle.send(busy, &frame);
    }
    let stream = world.publish(Lesson::with_group(10));
    let now = world.now;
    for frame in world.publishers[0].take(now) {
        world.node.handle.send(stream, &frame);
    }
    world.run(ms(100));
    let viewer = world.join(stream, Link::default(), Link::default());
    world.run(Duration::from_secs(1));
    assert_eq!(world.screen(viewer).shown.first().map(|shown| shown.number), Some(0));
    assert!(world.screen(viewer).has_all_to(25));
}

#[test]
fn frames_that_found_no_room_at_a_shard_cost_the_rest_of_the_group() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let viewer = world.join_keyed(stream, links(), Abilities::ALL);
    world.run(ms(1_000));
    // The shard does not come to take anything, while another stream and this one go on.
    let noise = world.node.handle.open_stream(world.now);
    let mut other = Publisher::new(noise, Lesson::default(), world.began, 2);
    let frames = other.take(world.began + Duration::from_secs(26));
    assert!(frames.len() > 2_048);
    frames.iter().for_each(|frame| world.node.handle.send(noise, frame));
    let stalled = world.now + ms(500);
    for frame in world.publishers[0].take(stalled) {
        world.node.handle.send(stream, &frame);
    }
    assert!(world.node.handle.counters().frames_dropped.value() > 10);
    world.now = stalled;
    world.run(Duration::from_secs(3));
    let screen = world.screen(viewer);
    assert!(screen.damaged.is_empty() && screen.cut == 0, "nothing that misses a frame before it is sent");
    let leap = screen.shown.windows(2).find(|pair| pair[1].number != pair[0].number + 1).expect("a leap");
    assert!(leap[1].is_keyframe && leap[1].number == 60, "{leap:?}");
    assert!(world.stats(viewer).skips >= 1);
}

#[test]
fn a_stream_of_recovery_points_is_joined_after_minutes_and_goes_on_after_losses() {
    let mut world = World::new(1);
    // One keyframe for ever; a refresh begins every two seconds.
    let lesson = Lesson {
        group: u64::MAX >> 40,
        recovery: Some(60),
        keyframe: 30_000,
        bps: 800_000,
        ..Lesson::default()
    };
    let stream = world.publish(lesson);
    world.run(ms(500));
    let gap = vec![Duration::from_secs(80)..Duration::from_secs(82)];
    let early = world.join_keyed(
        stream,
        (Link::default(), Link { blackouts: gap, ..Link::default() }),
        Abilities::ALL,
    );
    world.run(Duration::from_secs(75));
    let late = world.join_keyed(stream, (Link::default(), Link::default()), Abilities::ALL);
    let joined = world.now;
    world.run(Duration::from_secs(12));
    let newest = 30 * (world.now - world.began).as_secs() - 10;
    let screen = world.screen(late);
    assert!(screen.shown.first().is_some_and(|shown| shown.number == 0 && shown.whole < joined + ms(200)));
    // From the recovery point before the last on everything is there.
    assert!(screen.shown.get(1).is_some_and(|shown| shown.number == 2_160), "{:?}", screen.shown.get(1));
    assert!(screen.shown[1..].windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    assert!(screen.damaged.is_empty() && screen.shown.last().is_some_and(|last| last.number >= newest));
    let (screen, stats) = (world.screen(early), world.stats(early));
    assert!(stats.skips > 0, "{stats:?}");
    let since = world.began + Duration::from_secs(86);
    assert!(screen.damaged.iter().all(|at| *at < since), "{:?}", screen.damaged.len());
    assert!(screen.shown.last().is_some_and(|last| last.number >= newest), "{:?}", screen.shown.last());
}
