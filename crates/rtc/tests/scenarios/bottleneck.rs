//! Viewers behind a link that is hardly faster than the lesson, or slower: a queue of 300 ms, 2.5 Mbit/s with audio, joins at
//! ten places of a group of pictures.
use std::time::Duration;

use rtc::StreamId;

use crate::browser::Offers;
use crate::keyed::Abilities;
use crate::lesson::Lesson;
use crate::network::{Kind, Link};
use crate::world::World;

const FPS: u32 = 30;

/// Who joins.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// str0m, which reports arrivals every 50 ms.
    Str0m,
    /// A viewer that does what it can as often as Chromium.
    Keyed(Abilities),
}

/// Reports arrivals every 100 ms, and never.
const REPORTING: Who = Who::Keyed(Abilities::ALL);
const BLIND: Who = Who::Keyed(Abilities { arrivals: None, ..Abilities::ALL });

impl Who {
    fn reports(self) -> bool {
        !matches!(self, Self::Keyed(Abilities { arrivals: None, .. }))
    }

    fn join(self, world: &mut World, stream: StreamId, down: Link) -> usize {
        match self {
            Self::Str0m => {
                world.join_with(stream, Link::default(), down, Offers { transport_cc: true, rtx: true })
            }
            Self::Keyed(abilities) => world.join_keyed(stream, (Link::default(), down), abilities),
        }
    }
}

/// What one viewer went through.
#[derive(Debug)]
#[expect(dead_code, reason = "printed when a scenario fails")]
struct Outcome {
    kbps: u64,
    group: u64,
    who: Who,
    /// Where in the group it joined, in tenths.
    place: u32,
    /// From the join to the first picture, and to the live edge.
    first: Duration,
    caught: Duration,
    freezes: Vec<Duration>,
    damaged: usize,
    /// Packets of audio, in the first second and later.
    audio_lost: [usize; 2],
    resent_percent: f64,
    dropped: usize,
    queue: Duration,
    shown: usize,
    skips: u64,
}

/// Lets viewers join at ten places of a group, each over a link of its own.
fn joins(who: Who, group: u64, kbps: u64) -> Vec<Outcome> {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::with_group(group));
    world.run(Duration::from_secs(group));
    let began = world.now;
    let viewers = (0..10).map(|place| {
        world.run_until(began + Duration::from_secs(group) * place / 10 + Duration::from_millis(7));
        who.join(&mut world, stream, Link::bottleneck(kbps * 1_000))
    });
    let viewers: Vec<usize> = viewers.collect();
    world.run(Duration::from_secs(group + 2));
    let outcome = |(place, viewer)| outcome(&world, viewer, (who, group, kbps, place));
    (0..10).zip(viewers).map(outcome).collect()
}

fn outcome(world: &World, viewer: usize, (who, group, kbps, place): (Who, u64, u64, u32)) -> Outcome {
    let viewer_at = &world.viewers[viewer];
    let (stats, screen, joined) = (world.stats(viewer), &viewer_at.screen, viewer_at.joined);
    let settled = joined + Duration::from_secs(1);
    let live = |number: u64| world.began + Duration::from_secs(1) * u32::try_from(number).unwrap() / FPS;
    let longer = viewer_at.down.longer.map_or(Duration::ZERO, |(_, by)| by);
    let way = viewer_at.down.delay + longer + Duration::from_millis(50);
    let caught = screen.shown.iter().find(|shown| shown.whole < live(shown.number) + way);
    let lost_early = screen.audio_lost(joined, settled);
    Outcome {
        kbps,
        group,
        who,
        place,
        first: screen.shown.first().map_or(Duration::MAX, |shown| shown.whole - joined),
        caught: caught.map_or(Duration::MAX, |shown| shown.whole - joined),
        freezes: screen.freezes(FPS),
        damaged: screen.damaged.iter().filter(|at| **at > settled).count(),
        audio_lost: [lost_early, screen.audio_lost(settled, world.now)],
        resent_percent: 100.0 * as_f64(stats.resent) / as_f64(stats.packets),
        dropped: viewer_at.down.seen.dropped,
        queue: viewer_at.down.seen.queue_most,
        shown: screen.shown.len(),
        skips: stats.skips,
    }
}

fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Nothing lost, damaged or sent again, and motion without a break longer than `pause`.
fn assert_smooth(outcome: &Outcome, pause: Duration) {
    assert!(outcome.first < Duration::from_millis(400), "{outcome:#?}");
    assert_eq!((outcome.damaged, outcome.audio_lost, outcome.dropped), (0, [0, 0], 0), "{outcome:#?}");
    assert!(outcome.resent_percent <= 10.0, "{outcome:#?}");
    assert!(outcome.freezes.iter().all(|freeze| *freeze <= pause), "{outcome:#?}");
    assert!(outcome.freezes.len() <= 2, "{outcome:#?}");
}

/// Everybody, both groups, and these links.
fn grid(links_kbps: &[u64]) -> impl Iterator<Item = (Who, u64, u64)> {
    let who_and_group = [Who::Str0m, REPORTING, BLIND].into_iter().flat_map(|who| [(who, 2), (who, 10)]);
    who_and_group.flat_map(|(who, group)| links_kbps.iter().map(move |kbps| (who, group, *kbps)))
}

#[test]
fn joins_behind_6_and_4_megabits_have_no_freeze_and_no_loss() {
    for (who, group, kbps) in grid(&[6_000, 4_000]) {
        for outcome in joins(who, group, kbps) {
            assert_smooth(&outcome, Duration::ZERO);
        }
    }
}

#[test]
fn joins_behind_3_megabits_pause_no_longer_than_two_keyframes_in_a_row_take() {
    // A keyframe of 70 kB is on this link for 190 ms; who joins right before the next one gets both.
    for (who, group, kbps) in grid(&[3_000]) {
        for outcome in joins(who, group, kbps) {
            assert_smooth(&outcome, Duration::from_millis(280));
        }
    }
}

#[test]
fn on_a_fast_link_the_whole_group_is_there_in_a_moment() {
    for who in [Who::Str0m, REPORTING] {
        for outcome in joins(who, 2, 1_000_000) {
            assert_smooth(&outcome, Duration::ZERO);
            assert!(outcome.first < Duration::from_millis(100), "{outcome:#?}");
            assert!(outcome.caught < Duration::from_millis(250), "{outcome:#?}");
        }
    }
}

#[test]
fn below_the_rate_of_the_stream_audio_is_whole_and_pictures_go_on() {
    // Who does not report arrivals is sent too much here.
    for (who, group, kbps) in grid(&[1_500]).filter(|(who, ..)| who.reports()) {
        for outcome in joins(who, group, kbps) {
            // The first keyframe alone is longer than the queue.
            assert!(outcome.audio_lost[0] <= 5, "{outcome:#?}");
            assert_eq!(outcome.audio_lost[1], 0, "{outcome:#?}");
            // What the first keyframe pushed out of the queue may be given up for the next one.
            assert!(outcome.damaged <= 1, "{outcome:#?}");
            assert!(outcome.resent_percent <= 10.0, "{outcome:#?}");
            assert!(outcome.first < Duration::from_millis(1_500), "{outcome:#?}");
            // A group that is given up is a pause of its length.
            assert!(
                outcome.freezes.iter().all(|freeze| *freeze < Duration::from_millis(2_100)),
                "{outcome:#?}"
            );
        }
    }
}

#[test]
fn what_a_publisher_held_back_overflows_no_link_that_carries_the_stream() {
    let who = [Who::Str0m, REPORTING].into_iter().flat_map(|who| [(who, 2), (who, 10)]);
    for ((who, group), kbps) in who.flat_map(|who| [1_000_000, 6_000, 4_000].map(|kbps| (who, kbps))) {
        for stall in [600, 1_000, 2_000].map(Duration::from_millis) {
            let mut world = World::new(1);
            let stream = world.publish(Lesson::with_group(group));
            world.run(Duration::from_millis(900));
            let viewer = who.join(&mut world, stream, Link::bottleneck(kbps * 1_000));
            // Long enough to be at the live edge and watched no more.
            world.run(Duration::from_secs(group + 4));
            for _ in 0..3 {
                let now = world.now;
                world.publishers[0].stall(now, stall);
                world.run(stall + Duration::from_millis(3_700));
            }
            let outcome = outcome(&world, viewer, (who, group, kbps, 0));
            let lost = (outcome.dropped, outcome.audio_lost, outcome.damaged);
            assert_eq!(lost, (0, [0, 0], 0), "{stall:?}: {outcome:#?}");
            // Each is seen, and on a slow link that it goes on at the keyframe behind it.
            let seen = if kbps == 1_000_000 { 3 } else { 9 };
            assert!(outcome.freezes.len() <= seen, "{stall:?}: {outcome:#?}");
            assert!(outcome.freezes.iter().all(|freeze| *freeze < stall), "{stall:?}: {outcome:#?}");
        }
    }
}

/// Bits a second before and after the times at which a link changes.
fn changing(rates: &[(u64, u64)]) -> Link {
    let rates = rates.iter().map(|(from, bps)| (Duration::from_secs(*from), *bps)).collect();
    Link { rates, ..Link::default() }
}

#[test]
fn a_link_that_falls_to_the_rate_of_the_stream_and_rises_again_loses_nothing() {
    for who in [Who::Str0m, REPORTING, BLIND] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::default());
        world.run(Duration::from_millis(900));
        let viewer =
            who.join(&mut world, stream, changing(&[(0, 6_000_000), (6, 3_000_000), (12, 6_000_000)]));
        world.run(Duration::from_secs(16));
        let outcome = outcome(&world, viewer, (who, 2, 3_000, 0));
        assert_smooth(&outcome, Duration::from_millis(280));
    }
}

#[test]
fn a_link_that_falls_below_the_stream_recovers_when_it_rises() {
    for who in [Who::Str0m, REPORTING, BLIND] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::default());
        world.run(Duration::from_millis(900));
        let viewer =
            who.join(&mut world, stream, changing(&[(0, 6_000_000), (6, 1_500_000), (10, 6_000_000)]));
        world.run(Duration::from_secs(20));
        let screen = &world.viewers[viewer].screen;
        let risen = world.began + Duration::from_secs(14);
        assert_eq!(screen.audio_lost(risen, world.now), 0, "{who:?}");
        assert_eq!(screen.damaged.iter().filter(|at| **at > risen).count(), 0, "{who:?}");
        let late = screen.shown.iter().filter(|shown| shown.whole > risen).count();
        assert!(late > 150, "{who:?}: {late} frames in 7 s");
        let stats = world.stats(viewer);
        let share = 100.0 * as_f64(stats.resent) / as_f64(stats.packets);
        assert!(share < 10.0, "{who:?}: {share} % sent again");
    }
}

#[test]
fn on_a_link_that_the_stream_all_but_fills_the_queue_stays_short_for_the_whole_lesson() {
    for (who, group) in [Who::Str0m, REPORTING].into_iter().flat_map(|who| [(who, 2), (who, 10)]) {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::with_group(group));
        world.run(Duration::from_millis(900));
        let viewer = who.join(&mut world, stream, Link::bottleneck(3_000_000));
        world.run(Duration::from_secs(group + 4));
        // A keyframe alone is 187 ms long.
        world.viewers[viewer].down.seen.queue_most = Duration::ZERO;
        world.run(Duration::from_secs(60));
        let outcome = outcome(&world, viewer, (who, group, 3_000, 0));
        assert_smooth(&outcome, Duration::ZERO);
        assert!(outcome.queue < Duration::from_millis(130), "{outcome:#?}");
    }
}

#[test]
fn a_viewer_on_a_wide_link_reports_for_no_longer_than_it_takes_to_know_that() {
    for (mbps, most) in [(1_000, 8), (50, 8), (6, 60)] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::default());
        world.run(Duration::from_millis(900));
        let viewer = REPORTING.join(&mut world, stream, Link::bottleneck(mbps * 1_000_000));
        world.run(Duration::from_secs(4));
        let feedbacks = world.keyed(viewer).feedbacks;
        assert!((1..=most).contains(&feedbacks) && world.screen(viewer).damaged.is_empty(), "{feedbacks}");
    }
}

#[test]
fn at_the_live_edge_nothing_is_reported() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    world.run(Duration::from_millis(900));
    let viewer = REPORTING.join(&mut world, stream, Link::bottleneck(20_000_000));
    world.run(Duration::from_secs(4));
    let before = world.keyed(viewer).feedbacks;
    assert!(before > 5, "{before} while the burst was sent");
    world.run(Duration::from_secs(6));
    assert_eq!(world.keyed(viewer).feedbacks, before);
}

#[test]
fn at_the_live_edge_of_a_good_link_a_keyframe_is_not_paced() {
    for (who, group) in [Who::Str0m, REPORTING, BLIND].into_iter().flat_map(|who| [(who, 1), (who, 2)]) {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::with_group(group));
        world.run(Duration::from_millis(900));
        let viewer = who.join(&mut world, stream, Link::default());
        world.run(Duration::from_secs(12));
        let live = |number: u64| world.began + Duration::from_secs(1) * u32::try_from(number).unwrap() / FPS;
        let keyframes = world.viewers[viewer].screen.shown.iter().filter(|shown| shown.is_keyframe);
        let late: Vec<Duration> = keyframes.map(|shown| shown.whole - live(shown.number)).collect();
        let settled = &late[late.len() / 2..];
        assert!(settled.iter().all(|late| *late < Duration::from_millis(30)), "{who:?}, {group} s: {late:?}");
    }
}

#[test]
fn reports_that_are_lost_hold_nobody_back() {
    // Transport-wide feedback: its header is not encrypted.
    let feedback: Kind = |packet| packet.len() > 2 && packet[0] & 0x1f == 15 && packet[1] == 205;
    for lost in [1, 3, 6] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::with_group(30));
        world.run(Duration::from_secs(8));
        let up = Link { lost_kind: Some((feedback, lost)), ..Link::default() };
        let viewer = world.join_keyed(stream, (up, Link::bottleneck(6_000_000)), Abilities::ALL);
        world.run(Duration::from_secs(12));
        let outcome = outcome(&world, viewer, (REPORTING, 30, 6_000, 8));
        assert_smooth(&outcome, Duration::ZERO);
        // Before the next keyframe, which would help everybody.
        assert!(outcome.caught < Duration::from_secs(9), "{lost} lost: {outcome:#?}");
    }
}

/// A viewer that joins late in a long group, and what came of it after so many seconds, in which no keyframe comes.
fn joins_late(who: Who, up: Link, down: Link, seconds: u64) -> (World, usize, Outcome) {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::with_group(60));
    world.run(Duration::from_secs(4));
    let viewer = match who {
        Who::Str0m => world.join_with(stream, up, down, Offers { transport_cc: true, rtx: true }),
        Who::Keyed(abilities) => world.join_keyed(stream, (up, down), abilities),
    };
    world.run(Duration::from_secs(seconds));
    let outcome = outcome(&world, viewer, (who, 60, 0, 0));
    (world, viewer, outcome)
}

#[test]
fn a_long_way_to_the_viewer_is_no_slow_one() {
    for delay in [200, 350, 600] {
        let far = || Link { delay: Duration::from_millis(delay), ..Link::default() };
        for who in [Who::Str0m, REPORTING, BLIND] {
            let (_, _, outcome) = joins_late(who, far(), far(), 50);
            assert_eq!((outcome.damaged, outcome.audio_lost, outcome.skips), (0, [0, 0], 0), "{outcome:#?}");
            let is_there = outcome.caught < Duration::from_secs(12);
            assert!(is_there || !who.reports(), "{delay} ms: {outcome:#?}");
        }
    }
}

#[test]
fn a_way_that_becomes_longer_is_no_queue() {
    let longer = Some((Duration::from_secs(6), Duration::from_millis(150)));
    for who in [Who::Str0m, REPORTING] {
        let down = Link { longer, ..Link::bottleneck(3_500_000) };
        let (_, _, outcome) = joins_late(who, Link::default(), down, 50);
        assert_eq!((outcome.damaged, outcome.audio_lost, outcome.skips), (0, [0, 0], 0), "{outcome:#?}");
        assert!(outcome.caught < Duration::from_secs(48), "{outcome:#?}");
    }
}

#[test]
fn a_clock_that_is_fast_is_no_queue() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::with_group(2));
    world.run(Duration::from_secs(1));
    // Slower than the stream, so that the link is watched all the time.
    let viewer = REPORTING.join(&mut world, stream, Link::bottleneck(2_000_000));
    let frames = |world: &World| world.viewers[viewer].screen.shown.len();
    world.run(Duration::from_secs(20));
    let first = frames(&world);
    // By 150 ms at the end.
    world.keyed(viewer).fast_ppm = 1_000;
    world.run(Duration::from_secs(130));
    let before = frames(&world);
    world.run(Duration::from_secs(20));
    let last = frames(&world) - before;
    assert!(last * 10 > first * 9, "{last} frames in the last 20 s, {first} in the first");
}

#[test]
fn packets_that_overtake_others_cost_nothing_behind_a_bottleneck() {
    for who in [Who::Str0m, REPORTING] {
        let down = Link { reordering: 0.02, ..Link::bottleneck(3_500_000) };
        let (_, _, outcome) = joins_late(who, Link::default(), down, 40);
        assert_eq!((outcome.damaged, outcome.audio_lost, outcome.dropped), (0, [0, 0], 0), "{outcome:#?}");
    }
}

#[test]
fn who_offers_reports_and_sends_none_is_paced_like_who_cannot() {
    let mute = Abilities { arrivals: Some(Duration::from_secs(3_600)), ..Abilities::ALL };
    let (mut world, viewer, outcome) =
        joins_late(Who::Keyed(mute), Link::default(), Link::bottleneck(4_000_000), 50);
    assert_eq!(world.keyed(viewer).feedbacks, 0);
    assert_eq!((outcome.damaged, outcome.audio_lost, outcome.skips), (0, [0, 0], 0), "{outcome:#?}");
    assert!(outcome.caught < Duration::from_secs(45), "{outcome:#?}");
}
