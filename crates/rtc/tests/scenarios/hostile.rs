//! Bytes of strangers and viewers that ask for too much.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng;

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

#[test]
fn garbage_at_every_input_harms_nobody() {
    let mut world = World::new(2);
    let stream = world.publish(Lesson::default());
    let browser = world.join(stream, Link::default(), Link::default());
    let keyed = world.join_keyed(stream, links(), Abilities::ALL);
    world.run(Duration::from_secs(1));
    let stranger = SocketAddr::from(([192, 0, 2, 1], 7));
    let check = world.keyed(keyed).check(true);
    for round in 0..20_000_u32 {
        let len = world.rng.random_range(0..200);
        let mut bytes: Vec<u8> = (0..len).map(|_| world.rng.random()).collect();
        // A third is told apart as STUN, DTLS and RTCP each, from the viewers' own addresses and from a stranger's.
        if let Some(first) = bytes.first_mut() {
            *first = [*first % 4, 20 + *first % 44, 128 + *first % 64][usize::try_from(round % 3).unwrap()];
        }
        if round % 10 == 0 {
            bytes.clone_from(&check);
            // The fingerprint at the end is no secret.
            let at = world.rng.random_range(0..bytes.len() - 8);
            bytes[at] ^= 1 << world.rng.random_range(0..8);
        }
        let from = [stranger, world.viewers[browser].address, world.viewers[keyed].address]
            [usize::try_from(round / 3 % 3).unwrap()];
        let (now, shard) = (world.now, usize::try_from(round % 2).unwrap());
        world.node.datagram(now, shard, from, &bytes);
        if round % 100 == 0 {
            world.run(ms(5));
        }
    }
    world.run(Duration::from_secs(1));
    for viewer in [browser, keyed] {
        assert_eq!(world.closed(viewer), None);
        assert!(world.screen(viewer).has_all_to(80), "{viewer}: {:?}", world.screen(viewer).damaged.len());
    }
}

#[test]
fn sealed_garbage_of_a_viewer_harms_nobody() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let bad = world.join_keyed(stream, links(), Abilities::ALL);
    let good = world.join_keyed(stream, links(), Abilities::ALL);
    world.run(ms(500));
    let ssrc = world.keyed(bad).video_ssrc().to_be_bytes();
    for round in 0..4_000_u32 {
        let len = 4 * world.rng.random_range(2..40);
        let mut rtcp: Vec<u8> = (0..len).map(|_| world.rng.random()).collect();
        rtcp[0] = 0x80 | rtcp[0] & 0x1f;
        rtcp[1] = 200 + rtcp[1] % 8;
        if round % 4 == 0 {
            // Feedback on our source with a length that is right.
            (rtcp[0], rtcp[1]) =
                ([0x81, 0x8f, 0x84][usize::try_from(round / 4 % 3).unwrap()], 205 + rtcp[1] % 2);
            (rtcp[2], rtcp[3]) = (0, u8::try_from(len / 4 - 1).unwrap());
            if len >= 12 {
                rtcp[8..12].copy_from_slice(&ssrc);
            }
        }
        world.keyed(bad).say(&rtcp);
        if round % 20 == 0 {
            world.drive(bad);
            world.run(ms(10));
        }
    }
    world.run(Duration::from_secs(1));
    assert!(world.screen(good).has_all_to(90));
    assert_eq!(world.closed(bad), None);
}

#[test]
fn rtcp_that_was_seen_or_forged_is_not_heeded() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let viewer = world.join_keyed(stream, links(), Abilities { arrivals: None, ..Abilities::ALL });
    world.run(Duration::from_secs(2));
    let lost = u16::try_from(world.keyed(viewer).latest.unwrap() & 0xffff).unwrap();
    let ssrc = world.keyed(viewer).video_ssrc().to_be_bytes();
    let [high, low] = lost.to_be_bytes();
    let nack = [&[0x81, 205, 0, 3, 0, 0, 0, 1][..], &ssrc, &[high, low, 0, 0]].concat();
    let sealed = world.keyed(viewer).seal(&nack);
    for round in 0..4 {
        let mut bytes = sealed.clone();
        if round >= 2 {
            bytes[14] ^= 1;
        }
        world.keyed(viewer).blurt(bytes);
        world.drive(viewer);
        world.run(ms(300));
        assert_eq!(world.stats(viewer).resent, 1, "round {round}");
    }
}

#[test]
fn a_viewer_that_asks_for_everything_gets_its_share_and_others_their_answers() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    let greedy =
        world.join_keyed(stream, links(), Abilities { reports: false, nack: true, ..Abilities::ALL });
    let lossy = Link { loss: 0.03, ..Link::default() };
    let modest: Vec<usize> =
        (0..5).map(|_| world.join_keyed(stream, (Link::default(), lossy.clone()), Abilities::ALL)).collect();
    world.run(Duration::from_secs(1));
    for _ in 0..300 {
        let latest = u16::try_from(world.keyed(greedy).latest.unwrap() & 0xffff).unwrap();
        let all: Vec<u16> = (0..250).map(|back| latest.wrapping_sub(back)).collect();
        for _ in 0..4 {
            world.keyed(greedy).nack(&all);
        }
        world.drive(greedy);
        world.run(ms(10));
    }
    world.run(ms(500));
    let stats = world.stats(greedy);
    assert!(stats.resends_refused > 0, "{stats:?}");
    assert!(stats.resent * 100 < stats.packets * 45, "a share of the stream and no more: {stats:?}");
    for viewer in modest {
        let screen = world.screen(viewer);
        assert!(screen.has_all_to(120), "{viewer}: {:?}", screen.damaged.len());
        assert!(screen.freezes(30).is_empty(), "{viewer}");
    }
}

/// Counts what is logged.
struct Log(Arc<AtomicUsize>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn strangers_write_nothing_into_the_log() {
    let lines = Arc::new(AtomicUsize::new(0));
    let log = tracing::subscriber::set_default(Log(Arc::clone(&lines)));
    let mut world = World::new(2);
    let stream = world.publish(Lesson::default());
    let viewer = world.join_keyed(stream, (Link::default(), Link::default()), Abilities::ALL);
    world.run(Duration::from_secs(1));
    lines.store(0, Ordering::Relaxed);
    let from = SocketAddr::from(([192, 0, 2, 9], 9));
    for ufrag in ["0stranger", "1stranger", "no shard"] {
        // A request with as many attributes as fit, which mean nothing: MAPPED-ADDRESS, UNKNOWN-ATTRIBUTES and others.
        let name = format!("{ufrag}:viewer");
        let mut attributes = vec![0, 6, 0, u8::try_from(name.len()).unwrap()];
        attributes.extend(name.bytes());
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        let kinds = [[0, 1], [0, 0x0a], [0x80, 0x23], [0xc0, 0x57]].into_iter().cycle();
        attributes.extend(kinds.take(400).flat_map(|[high, low]| [high, low, 0, 0]));
        let [high, low] = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        let mut message =
            vec![0, 1, high, low, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        message.extend(attributes);
        for shard in 0..2 {
            world.node.datagram(world.now, shard, from, &message);
        }
    }
    world.run(Duration::from_secs(1));
    drop(log);
    assert_eq!(lines.load(Ordering::Relaxed), 0);
    assert!(world.screen(viewer).has_all_to(50));
}
