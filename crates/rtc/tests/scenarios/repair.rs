//! Losses and what heals them.
use std::collections::HashMap;
use std::time::Duration;

use crate::keyed::Abilities;
use crate::lesson::Lesson;
use crate::network::Link;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A lesson and a viewer over `down` that has been there for two seconds.
fn watching(down: Link, abilities: Abilities) -> (World, usize) {
    let mut world = World::new(1);
    world.tap = Some(Vec::new());
    let stream = world.publish(Lesson::default());
    world.run(ms(100));
    let viewer = world.join_keyed(stream, (Link { delay: down.delay, ..Link::default() }, down), abilities);
    world.run(Duration::from_secs(2));
    (world, viewer)
}

/// No two packets with the same source and number may differ: it would be one nonce for two plaintexts. Returns how many were
/// sent more than once.
fn assert_no_nonce_is_reused(world: &World) -> usize {
    let mut seen: HashMap<_, &[u8]> = HashMap::new();
    let mut again = 0;
    for (_, to, packet) in world.tap.iter().flatten() {
        let is_rtp = packet[0] >> 6 == 2 && !(192..=223).contains(&packet[1]);
        if is_rtp
            && let Some(before) = seen.insert((to, packet[8..12].to_vec(), packet[2..4].to_vec()), packet)
        {
            assert_eq!(before, &packet[..]);
            again += 1;
        }
    }
    again
}

#[test]
fn random_losses_are_healed_for_browsers() {
    // str0m asks for a packet again after 300 ms, and for nothing that is more than 100 packets back; what it then misses is
    // the rest of a group.
    for (percent, least) in [(1_u32, 70), (5, 50), (10, 30)] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::default());
        // str0m asks for the last 100 packets only, so the first burst must be short.
        world.run(ms(40));
        let down = Link { loss: f64::from(percent) / 100.0, ..Link::default() };
        let viewer = world.join(stream, Link::default(), down);
        world.run(Duration::from_secs(8));
        let screen = world.screen(viewer);
        let made = usize::try_from(screen.shown.last().unwrap().number + 1).unwrap();
        let share = screen.shown.len() * 100 / made;
        assert!(
            share >= least,
            "{percent} %: {share} % of {made} frames, damaged {:?}",
            screen.damaged.len()
        );
        let stats = world.stats(viewer);
        assert!(
            stats.resent > 0 && stats.resent * 100 < stats.packets * u64::from(percent + 2) * 2,
            "{stats:?}"
        );
    }
}

#[test]
fn up_to_ten_percent_of_losses_are_healed_for_who_asks_patiently() {
    for percent in [1_u32, 5, 10] {
        let down = Link { loss: f64::from(percent) / 100.0, delay: ms(20), ..Link::default() };
        let (mut world, viewer) = watching(down, Abilities::ALL);
        world.run(Duration::from_secs(4));
        let screen = world.screen(viewer);
        assert!(screen.has_all_to(160), "{percent} %: {:?}", screen.damaged.len());
        let stats = world.stats(viewer);
        assert!(stats.resent * 100 < stats.packets * u64::from(percent + 1) * 2, "{stats:?}");
    }
}

#[test]
fn losses_are_healed_on_a_source_of_their_own() {
    let (mut world, viewer) = watching(Link { loss: 0.05, ..Link::default() }, Abilities::ALL);
    world.run(Duration::from_secs(4));
    assert!(world.screen(viewer).has_all_to(170), "{:?}", world.screen(viewer).damaged);
    assert!(world.keyed(viewer).by_rtx > 50, "{}", world.keyed(viewer).by_rtx);
    assert_eq!(assert_no_nonce_is_reused(&world), 0, "every packet has a number of its own");
}

#[test]
fn without_that_source_the_very_same_bytes_are_sent_again() {
    let abilities = Abilities { rtx: false, ..Abilities::ALL };
    let (mut world, viewer) = watching(Link { loss: 0.05, ..Link::default() }, abilities);
    world.run(Duration::from_secs(4));
    assert!(world.screen(viewer).has_all_to(170), "{:?}", world.screen(viewer).damaged);
    assert!(assert_no_nonce_is_reused(&world) > 50);
    assert_eq!(world.keyed(viewer).by_rtx, 0);
}

#[test]
fn a_burst_of_losses_is_healed() {
    for len in [2, 20, 60] {
        let down = Link { lost: (900..900 + len).chain(1_200..1_200 + len).collect(), ..Link::default() };
        let (mut world, viewer) = watching(down, Abilities::ALL);
        world.run(Duration::from_secs(4));
        assert!(world.screen(viewer).has_all_to(170), "{len}: {:?}", world.screen(viewer).damaged);
        assert_eq!(world.stats(viewer).resends_refused, 0);
    }
}

#[test]
fn without_nack_a_loss_costs_the_rest_of_its_group_and_no_more() {
    let abilities = Abilities { nack: false, rtx: false, ..Abilities::ALL };
    let (mut world, viewer) = watching(Link { lost: vec![900], ..Link::default() }, abilities);
    world.run(Duration::from_secs(6));
    let screen = world.screen(viewer);
    assert!(screen.damaged.len() < 60, "{}", screen.damaged.len());
    assert!(screen.shown.last().unwrap().number > 230);
    assert_eq!(world.stats(viewer).resent, 0);
}

#[test]
fn swapped_and_doubled_packets_do_no_harm() {
    let down = Link { reordering: 0.05, duplication: 0.05, jitter: ms(15), ..Link::default() };
    let (mut world, viewer) = watching(down.clone(), Abilities::ALL);
    world.run(Duration::from_secs(4));
    assert!(world.screen(viewer).has_all_to(170), "{:?}", world.screen(viewer).damaged);
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let viewer = world.join(stream, down.clone(), down);
    world.run(Duration::from_secs(5));
    assert!(world.screen(viewer).has_all_to(140), "{:?}", world.screen(viewer).damaged);
}

#[test]
fn what_is_on_its_way_is_not_sent_again_within_a_round_trip() {
    let slow = Link { delay: ms(100), ..Link::default() };
    // It reports, so that the round trip is known, but asks for nothing by itself.
    let (mut world, viewer) = watching(slow, Abilities { arrivals: None, ..Abilities::ALL });
    world.run(Duration::from_secs(2));
    let lost = u16::try_from(world.keyed(viewer).latest.unwrap() & 0xffff).unwrap();
    let before = world.stats(viewer).resent;
    for _ in 0..6 {
        world.keyed(viewer).nack(&[lost]);
        world.drive(viewer);
        world.run(ms(30));
    }
    world.run(ms(150));
    assert_eq!(world.stats(viewer).resent, before + 1, "six requests in 150 ms of a round trip of 200");
    world.keyed(viewer).nack(&[lost]);
    world.drive(viewer);
    world.run(ms(150));
    assert_eq!(world.stats(viewer).resent, before + 2, "then it may have been lost again");
}

#[test]
fn what_was_never_sent_or_is_long_gone_is_not_answered() {
    let (mut world, viewer) = watching(Link::default(), Abilities::ALL);
    world.run(Duration::from_secs(6));
    let latest = u16::try_from(world.keyed(viewer).latest.unwrap() & 0xffff).unwrap();
    let before = world.stats(viewer).resent;
    let future: Vec<u16> = (1_000..1_200).map(|ahead| latest.wrapping_add(ahead)).collect();
    world.keyed(viewer).nack(&future);
    world.keyed(viewer).nack(&[latest.wrapping_sub(2_000)]);
    world.drive(viewer);
    world.run(ms(200));
    assert_eq!(world.stats(viewer).resent, before);
    assert!(world.screen(viewer).has_all_to(230));
}

/// How often the picture went back to a keyframe that had been shown.
fn replays(world: &World, viewer: usize) -> usize {
    world.screen(viewer).shown.windows(2).filter(|pair| pair[1].number <= pair[0].number).count()
}

#[test]
fn a_keyframe_request_is_answered_once_and_then_ever_more_rarely() {
    for is_fir in [false, true] {
        let (mut world, viewer) = watching(Link::default(), Abilities::ALL);
        world.keyed(viewer).ask_for_keyframe(is_fir);
        world.drive(viewer);
        world.run(ms(300));
        assert_eq!(replays(&world, viewer), 1, "fir {is_fir}");
        for _ in 0..100 {
            world.keyed(viewer).ask_for_keyframe(is_fir);
            world.drive(viewer);
            world.run(ms(100));
        }
        let replays = replays(&world, viewer);
        assert!((2..=5).contains(&replays), "{replays} in ten seconds, fir {is_fir}");
        assert!(world.screen(viewer).damaged.is_empty());
        assert_eq!(world.stats(viewer).keyframe_requests, 101);
        assert_no_nonce_is_reused(&world);
    }
}

#[test]
fn a_picture_that_stands_still_is_not_given_again_to_who_says_that_he_has_it() {
    let (mut world, viewer) = watching(Link::default(), Abilities::ALL);
    let now = world.now;
    world.publishers[0].stall(now, Duration::from_secs(21));
    world.run(Duration::from_secs(1));
    for _ in 0..6 {
        world.keyed(viewer).ask_for_keyframe(false);
        world.drive(viewer);
        world.run(Duration::from_secs(3));
    }
    assert_eq!(replays(&world, viewer), 0, "while nothing new came");
    world.run(Duration::from_secs(12));
    world.keyed(viewer).ask_for_keyframe(false);
    world.drive(viewer);
    world.run(ms(300));
    assert_eq!(replays(&world, viewer), 1, "once the lesson went on");
}

#[test]
fn a_keyframe_request_of_a_viewer_that_is_far_behind_is_answered() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::with_group(10));
    world.run(ms(100));
    let slow = (Link::default(), Link::bottleneck(1_500_000));
    let viewer = world.join_keyed(stream, slow, Abilities::ALL);
    world.run(Duration::from_secs(5));
    let newest = world.screen(viewer).shown.last().unwrap().number;
    assert!(newest < 110, "frame {newest} of 150");
    world.keyed(viewer).ask_for_keyframe(false);
    world.drive(viewer);
    world.run(Duration::from_secs(2));
    assert_eq!(replays(&world, viewer), 1);
}

#[test]
fn browsers_get_an_answer_to_pli_and_fir() {
    for kind in [str0m::media::KeyframeRequestKind::Pli, str0m::media::KeyframeRequestKind::Fir] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson::with_group(10));
        let viewer = world.join(stream, Link::default(), Link::default());
        world.run(Duration::from_secs(3));
        world.browser(viewer).request_keyframe(kind);
        world.drive(viewer);
        world.run(Duration::from_secs(1));
        assert_eq!(world.stats(viewer).keyframe_requests, 1, "{kind:?}");
        assert_eq!(replays(&world, viewer), 1, "{kind:?}");
    }
}

#[test]
fn a_link_that_was_dead_for_seconds_is_healed_by_the_next_keyframe() {
    for dead in [400, 1_500, 5_000] {
        let blackout = Duration::from_secs(3)..Duration::from_secs(3) + ms(dead);
        let (mut world, viewer) =
            watching(Link { blackouts: vec![blackout], ..Link::default() }, Abilities::ALL);
        world.run(Duration::from_secs(3) + ms(dead));
        world.run(Duration::from_secs(4));
        let screen = world.screen(viewer);
        let last = screen.shown.last().unwrap();
        assert!(world.now - last.whole < ms(200), "after {dead} ms: {last:?}");
        let live = u64::try_from(world.since().as_millis()).unwrap() * 30 / 1_000;
        assert!(live - last.number < 10, "after {dead} ms: {} of {live}", last.number);
    }
}

#[test]
fn a_network_that_took_nothing_for_a_moment_costs_no_frame() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let full = || Link { blackouts: vec![Duration::from_secs(2)..ms(2_060)], ..Link::default() };
    let viewers: Vec<usize> =
        (0..20).map(|_| world.join_keyed(stream, (Link::default(), full()), Abilities::ALL)).collect();
    world.run(Duration::from_secs(4));
    for viewer in viewers {
        assert!(world.screen(viewer).has_all_to(110), "{viewer}: {:?}", world.screen(viewer).damaged);
    }
}

#[test]
fn what_is_asked_for_of_a_group_that_was_given_up_does_not_cost_the_next_one() {
    for begins in [2_300, 2_700, 3_000] {
        let blackouts = vec![ms(begins)..ms(begins + 900)];
        let (mut world, viewer) = watching(Link { blackouts, ..Link::default() }, Abilities::ALL);
        world.run(Duration::from_secs(8));
        let (screen, stats) = (world.screen(viewer), world.stats(viewer));
        assert!(stats.resends_refused > 0, "{stats:?}");
        assert_eq!(stats.skips, 1, "{begins} ms: {stats:?}");
        // The keyframe after it, and every frame since.
        let since: Vec<u64> =
            screen.shown.iter().map(|shown| shown.number).filter(|number| *number >= 120).collect();
        assert!(since.windows(2).all(|pair| pair[1] == pair[0] + 1), "{since:?}");
        assert!(since.len() > 170, "{}", since.len());
    }
}
