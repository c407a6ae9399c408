//! Viewers behind a link that is hardly faster than the lesson, or slower.
use std::time::{Duration, Instant};

use rtc::StreamId;

use crate::browser::Offers;
use crate::keyed::Abilities;
use crate::lesson::Lesson;
use crate::network::Link;
use crate::world::World;

const FPS: u32 = 30;

/// What one viewer went through.
#[derive(Debug)]
struct Outcome {
    place_ms: u64,
    first: Option<Duration>,
    freezes: Vec<Duration>,
    raw_freezes: usize,
    damaged_late: usize,
    damaged: usize,
    audio_lost: usize,
    caught: Duration,
    resent_percent: f64,
    dropped: usize,
    queue: Duration,
    shown: usize,
    cut: usize,
    skips: u64,
    around: Vec<String>,
    refused: u64,
    packets: u64,
}

/// Lets viewers join at ten places of a group of pictures, each over a link of its own, and watch for `watched`.
fn matrix(lesson: Lesson, link: &Link, watched: Duration, way: Way) -> Vec<Outcome> {
    let mut world = World::new(1);
    let group = Duration::from_secs(lesson.group) / FPS;
    let stream = world.publish(lesson);
    world.run(group);
    let began = world.now;
    let mut joins = Vec::new();
    for place in 0..10 {
        world.run_until(began + group * place / 10 + Duration::from_millis(7));
        let shifted = |(from, bps): &(Duration, u64)| (if from.is_zero() { *from } else { world.since() + *from }, *bps);
        let down = Link { rates: link.rates.iter().map(shifted).collect(), ..link.clone() };
        joins.push((way.join(&mut world, stream, down), u64::from(place)));
    }
    for (viewer, _) in &joins {
        let end = world.viewers[*viewer].joined + watched;
        world.run_until(end.max(world.now));
    }
    joins.iter().map(|(viewer, place)| outcome(&world, *viewer, place * group.as_millis() as u64 / 10)).collect()
}

fn outcome(world: &World, viewer: usize, place_ms: u64) -> Outcome {
    let place = &world.viewers[viewer];
    let stats = world.stats(viewer);
    let screen = &place.screen;
    let late = |at: &&Instant| **at > place.joined + Duration::from_secs(1);
    let step = Duration::from_secs(1) / FPS;
    let raw = screen.shown.windows(2).filter(|pair| pair[1].whole - pair[0].whole > step + Duration::from_millis(150));
    Outcome {
        place_ms,
        first: screen.shown.first().map(|shown| shown.whole - place.joined),
        freezes: screen.freezes(FPS),
        raw_freezes: raw.count(),
        damaged_late: screen.damaged.iter().filter(late).count(),
        damaged: screen.damaged.len(),
        audio_lost: screen.audio_lost(),
        caught: screen.shown.iter().find(|shown| shown.whole < world.began + Duration::from_secs(1) * u32::try_from(shown.number).unwrap() / FPS + Duration::from_millis(60)).map_or(Duration::MAX, |shown| shown.whole - place.joined),
        resent_percent: 100.0 * stats.resent as f64 / stats.packets.max(1) as f64,
        dropped: place.down.seen.dropped,
        queue: place.down.seen.queue_most,
        shown: screen.shown.len(),
        cut: screen.cut,
        around: screen.around_freezes(place.joined),
        skips: stats.skips,
        refused: stats.resends_refused,
        packets: stats.packets,
    }
}

/// Who joins.
#[derive(Clone, Copy, Debug)]
enum Way {
    Browser { transport_cc: bool },
    Keyed(Abilities),
}

impl Way {
    fn join(self, world: &mut World, stream: StreamId, down: Link) -> usize {
        match self {
            Self::Browser { transport_cc } => {
                world.join_with(stream, Link::default(), down, Offers { transport_cc, rtx: true })
            }
            Self::Keyed(abilities) => world.join_keyed(stream, (Link::default(), down), abilities),
        }
    }
}

#[test]
fn report() {
    let slow = Way::Keyed(Abilities::ALL);
    let browser = Way::Browser { transport_cc: true };
    let none = Way::Keyed(Abilities { arrivals: None, ..Abilities::ALL });
    for (way, group, kbps) in [(slow, 2, 1_000_000), (slow, 2, 6000), (slow, 2, 3000), (browser, 10, 3000), (slow, 2, 1500), (slow, 10, 1500), (browser, 2, 1500), (browser, 10, 1500)] {
        eprintln!("== {kbps} kbit/s, group {group} s, {}", if matches!(way, Way::Keyed(Abilities { arrivals: None, .. })) { "blind" } else { "100 ms" });
        for outcome in matrix(Lesson::with_group(group), &Link::bottleneck(kbps * 1000), Duration::from_secs(12), way) {
            let Outcome { caught, place_ms, first, freezes, raw_freezes, damaged_late, damaged, audio_lost, resent_percent, dropped, queue, shown, cut, around, skips, refused, packets } = outcome;
            eprintln!("{place_ms:5}: caught {} first {:?} freezes {} {:?} raw {raw_freezes} damaged {damaged_late}/{damaged} audio {audio_lost} resent {resent_percent:.1} dropped {dropped} queue {} shown {shown} cut {cut} skips {skips} refused {refused} packets {packets}", caught.as_millis(), first.unwrap_or_default().as_millis(), freezes.len(), freezes.iter().map(|f| f.as_millis()).collect::<Vec<_>>(), queue.as_millis());
            if std::env::var("AROUND").is_ok() {
                for line in around { eprintln!("         {line}"); }
            }
        }
    }
}
