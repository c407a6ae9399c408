//! The wire between two nodes in virtual time, each scenario from seeds that are printed when one fails.
mod identities;
mod road;
mod world;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Epoch, Place, StreamFrame, Timeline, Update};
use media::{AudioFrame, Frame, MediaTime, Track, Tracks, VideoConfig, VideoFrame};
use road::Road;
use world::World;

/// x264, constrained baseline, 640x360.
const SPS: Bytes = Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70]);
const PPS: Bytes = Bytes::from_static(&[0x68, 0xcb, 0x83, 0xcb, 0x20]);
/// Frames of a group, at 30 a second.
const GROUP: u64 = 60;
/// Bytes of pictures: 2.5 Mbit/s.
const KEYFRAME: usize = 60_000;
const PICTURE: usize = 9_400;
const STREAM_BPS: u64 = 2_550_000;

/// Lessons of several teachers, each of whom began a little later than the one before.
struct Lessons {
    world: World,
    begun: Instant,
    count: u32,
    made: HashMap<(usize, Track, Place), Instant>,
    order: Vec<(usize, Track, Place)>,
    config: Arc<VideoConfig>,
}

impl Lessons {
    fn new(seed: u64, road: Road, count: u32) -> Self {
        let mut world = World::new(seed, road, count, STREAM_BPS * u64::from(count));
        let config = Arc::new(VideoConfig::parse(&SPS, &[PPS]).expect("parameter sets"));
        for index in 0..count as usize {
            let timeline = Timeline { id: 1, zero: world.now };
            let epoch = Epoch { number: 1, session: "s1".to_owned(), timeline, path: Vec::new() };
            world.update(index, &Update::Epoch(epoch));
            let tracks = Tracks { video: Some(Arc::clone(&config)), audio: true };
            world.update(index, &Update::Tracks(tracks));
        }
        Self { begun: world.now, world, count, made: HashMap::new(), order: Vec::new(), config }
    }

    /// Teaches for a while.
    fn teach(&mut self, length: Duration) {
        let mut frames = Vec::new();
        for index in 0..self.count {
            // Keyframes of different teachers do not come at once.
            let later = Duration::from_millis(u64::from(index) * 97);
            for number in 0..u64::try_from(length.as_micros()).unwrap_or(0) / 33_333 {
                let place = Place { epoch: 1, group: number / GROUP, index: (number % GROUP) as u32 };
                frames.push((
                    later + Duration::from_micros(number * 33_333),
                    index as usize,
                    Track::Video,
                    place,
                ));
            }
            for number in 0..u64::try_from(length.as_millis()).unwrap_or(0) / 20 {
                let place = Place { epoch: 1, group: number / 50, index: (number % 50) as u32 };
                frames.push((
                    later + Duration::from_millis(number * 20),
                    index as usize,
                    Track::Audio,
                    place,
                ));
            }
        }
        frames.sort_by_key(|(at, ..)| *at);
        for (at, index, track, place) in frames {
            self.world.run_until(self.begun + at);
            let frame = match track {
                Track::Video => self.picture(place.group * GROUP + u64::from(place.index)),
                Track::Audio => sound(place.group * 50 + u64::from(place.index)),
            };
            self.made.insert((index, track, place), self.world.now);
            self.order.push((index, track, place));
            let item = StreamFrame { place, epoch_time: frame.time(), frame };
            self.world.update(index, &Update::Frame(Arc::new(item)));
        }
    }

    fn picture(&self, index: u64) -> Frame {
        let keyframe = index.is_multiple_of(GROUP);
        let mut nal = vec![if keyframe { 0x65 } else { 0x41 }; if keyframe { KEYFRAME } else { PICTURE }];
        nal[1..9].copy_from_slice(&index.to_be_bytes());
        Frame::Video(VideoFrame {
            time: MediaTime::from_micros(index as i64 * 33_333),
            keyframe,
            recovery_point: false,
            config: Arc::clone(&self.config),
            nals: Arc::from([Bytes::from(nal)]),
            arrival: self.begun,
        })
    }

    /// What a subscription had of a track, each frame with when it came and how long it was under way.
    fn had(&self, subscription: usize, track: Track) -> Vec<(Place, Instant, Duration)> {
        let got = self.world.got(subscription).iter().filter(|(_, _, frame)| frame.track() == track);
        got.map(|(at, place, frame)| {
            assert_eq!(frame.is_keyframe(), track == Track::Video && place.index == 0);
            (*place, *at, *at - self.made[&(subscription, track, *place)])
        })
        .collect()
    }

    fn made(&self, subscription: usize, track: Track) -> Vec<Place> {
        let of = |(index, made, _): &&(usize, Track, Place)| (*index, *made) == (subscription, track);
        self.order.iter().filter(of).map(|(.., place)| *place).collect()
    }

    /// How long frames were under way, shortest first.
    fn latencies(&self) -> Vec<Duration> {
        let mut all: Vec<_> = (0..self.count as usize)
            .flat_map(|index| [Track::Video, Track::Audio].map(|track| self.had(index, track)))
            .flatten()
            .map(|(.., latency)| latency)
            .collect();
        all.sort_unstable();
        all
    }
}

fn sound(index: u64) -> Frame {
    let time = MediaTime::from_millis(index as i64 * 20);
    Frame::Audio(AudioFrame { time, packet: Bytes::from(vec![0xf8; 120]), arrival: Instant::now() })
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[test]
fn loss_reordering_and_duplication_change_nothing_but_the_moment() {
    for seed in 0..3 {
        let road = Road {
            jitter: Duration::from_millis(2),
            loss: 30,
            duplicated: 20,
            ..Road::clean(Duration::from_millis(10))
        };
        let mut lessons = Lessons::new(seed, road, 20);
        lessons.teach(Duration::from_secs(6));
        lessons.world.run_until(lessons.world.now + Duration::from_secs(2));
        for index in 0..20 {
            for track in [Track::Video, Track::Audio] {
                let had: Vec<_> = lessons.had(index, track).into_iter().map(|(place, ..)| place).collect();
                assert_eq!(had, lessons.made(index, track), "seed {seed}, subscription {index}");
            }
        }
        let latencies = lessons.latencies();
        let (p50, p99) = (percentile(&latencies, 50), percentile(&latencies, 99));
        println!("seed {seed}: p50 {p50:?}, p99 {p99:?}, max {:?}", latencies[latencies.len() - 1]);
        assert!(p99 <= Duration::from_millis(10 + 35), "seed {seed}: {p99:?}");
    }
}

#[test]
fn a_clean_road_adds_nothing_but_its_length() {
    let mut lessons = Lessons::new(1, Road::clean(Duration::from_millis(10)), 5);
    lessons.teach(Duration::from_secs(3));
    lessons.world.run_until(lessons.world.now + Duration::from_secs(1));
    let latencies = lessons.latencies();
    println!("p50 {:?}, p99 {:?}", percentile(&latencies, 50), percentile(&latencies, 99));
    assert!(percentile(&latencies, 99) <= Duration::from_millis(12));
    // One copy of each frame, and what QUIC and its keyframes' acknowledgements take.
    let made = STREAM_BPS / 8 * 3 * 5;
    assert!(lessons.world.bytes < made * 115 / 100, "{} bytes for {made}", lessons.world.bytes);
}

#[test]
fn after_a_second_of_darkness_it_is_live_again_and_whole_from_a_keyframe_on() {
    for seed in 0..3 {
        let dark = (Duration::from_millis(4_500), Duration::from_millis(5_500));
        let road = Road { blackout: Some(dark), ..Road::clean(Duration::from_millis(10)) };
        let mut lessons = Lessons::new(seed, road, 5);
        lessons.teach(Duration::from_secs(8));
        lessons.world.run_until(lessons.world.now + Duration::from_secs(1));
        // Darkness is counted from the world's beginning, two seconds before the lesson's. Two seconds later it is live again.
        let live_again = lessons.world.start + dark.1 + Duration::from_secs(2);
        for index in 0..5 {
            let had = lessons.had(index, Track::Video);
            for pair in had.windows(2) {
                let (before, after) = (pair[0].0, pair[1].0);
                let follows = before.group == after.group && before.index + 1 == after.index;
                assert!(follows || after.index == 0, "seed {seed}: {after:?} after {before:?}");
            }
            let late =
                [Track::Video, Track::Audio].map(|track| lessons.had(index, track)).into_iter().flatten();
            let late: Vec<_> = late.filter(|(_, at, _)| *at > live_again).collect();
            assert!(late.len() > 100, "it goes on");
            for (place, _, latency) in late {
                assert!(latency < Duration::from_millis(500), "seed {seed}: {place:?} took {latency:?}");
            }
        }
    }
}
