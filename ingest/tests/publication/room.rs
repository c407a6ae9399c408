//! A hub with publishers, their messages, and what comes out.
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Hub, Limits, Subscription, Update};
use ingest::metrics::Metrics;
use ingest::pool::Pool;
use ingest::publish::Publication;
use ingest::transcode::Redundancy;
use media::flv::file::Tags;
use media::{Frame, Track, VideoFrame};
use prometheus::Registry;
use rtmp::MediaKind;

pub(crate) const TONE: &[u8] = include_bytes!("../fixtures/tone-44100-1.flv");
pub(crate) const LESSON: &[u8] = include_bytes!("../../../crates/media/tests/fixtures/baseline.flv");
/// The longest that the pool may take for what a test sends, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The messages of a file: their kind, their time and their body.
pub(crate) fn messages(file: &'static [u8]) -> Vec<(MediaKind, u32, Bytes)> {
    let kind = |kind| match kind {
        8 => Some(MediaKind::Audio),
        9 => Some(MediaKind::Video),
        _ => None,
    };
    let tags = Tags::parse(Bytes::from_static(file)).unwrap();
    tags.filter_map(|tag| Some((kind(tag.kind)?, tag.timestamp_ms, tag.body))).collect()
}

pub(crate) struct Room {
    pub(crate) hub: Hub,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
}

impl Room {
    pub(crate) fn new() -> Self {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        Self { hub: Hub::new(Limits::default()), pool: Pool::start().unwrap(), metrics }
    }

    pub(crate) fn publish(&self, name: &str) -> (Publication, Subscription) {
        let epoch = self.hub.status(name).map_or(1, |before| before.epoch + 1);
        let publisher = self.hub.publish(name, "session", epoch).unwrap();
        let subscription = self.hub.subscribe(name).unwrap();
        let metrics = self.metrics.clone();
        (Publication::new(publisher, self.pool.handle(), Redundancy::None, metrics), subscription)
    }

    pub(crate) fn problems(&self) -> Vec<&'static str> {
        self.hub.status("room101").unwrap().problems.iter().map(|problem| problem.code).collect()
    }

    /// Waits for the pool to have found out, with messages that say nothing.
    pub(crate) fn until_problems(&self, publication: &mut Publication, from: Instant, expected: &[&str]) {
        let began = Instant::now();
        let nothing = Bytes::from_static(&[0xaf, 1]);
        for tick in 0.. {
            let now = from + tick * Duration::from_millis(1);
            publication.on_media(now, MediaKind::Audio, 0, nothing.clone()).unwrap();
            if self.problems() == expected {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{:?} and not {expected:?}", self.problems());
            std::thread::yield_now();
        }
    }
}

/// The next frame of a track. Ends the test when none comes.
pub(crate) async fn next(subscription: &mut Subscription, track: Track) -> Frame {
    let wait = async {
        loop {
            match subscription.next().await.expect("the stream lives") {
                Update::Frame(item) if item.frame.track() == track => return item.frame.clone(),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a frame")
}

pub(crate) async fn next_video(subscription: &mut Subscription) -> VideoFrame {
    let Frame::Video(frame) = next(subscription, Track::Video).await else { unreachable!("asked for video") };
    frame
}
