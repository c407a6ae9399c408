//! What the viewers of a class are to know of its lesson.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::api::{Heartbeat, Playback, StreamProblem, StreamReport, StreamState};

use super::Registry;

/// For how long a publisher whose node is gone is expected to come back: as long as a node waits for one.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Classes whose publishers are expected back at most.
const AWAY_CLASSES_MAX: usize = 10_000;

/// Where a lesson is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody publishes.
    Offline,
    /// An app is there, and its tracks are not known.
    Starting,
    /// Frames flow.
    Live,
    /// The app is gone without a word, or its node is; it is expected back.
    Reconnecting,
    /// The app has said that the lesson is over.
    Ended,
}

/// A lesson as its viewers may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Where it is.
    pub phase: Phase,
    /// Since when, if that is known.
    pub since: Option<Instant>,
    /// Who watches, at all nodes.
    pub viewers: u32,
    /// What their players say.
    pub playback: Playback,
    /// Whether it has a picture.
    pub has_video: bool,
    /// Whether it has sound.
    pub has_audio: bool,
    /// Pixels of its picture, and bits of both a second.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bits a second.
    pub bitrate_bps: u64,
    /// What the app does wrong.
    pub problems: Vec<StreamProblem>,
}

impl Lesson {
    /// That of a class of which nobody publishes.
    pub fn without_stream(phase: Phase, since: Option<Instant>) -> Self {
        Self {
            phase,
            since,
            viewers: 0,
            playback: Playback::default(),
            has_video: false,
            has_audio: false,
            width: 0,
            height: 0,
            bitrate_bps: 0,
            problems: Vec::new(),
        }
    }
}

/// The classes whose publishers went with their nodes, and when.
#[derive(Debug, Default)]
pub(super) struct Away(BTreeMap<String, Instant>);

impl Away {
    /// A node is gone, or has begun a new life.
    pub(super) fn on_lost(&mut self, now: Instant, heartbeat: &Heartbeat) {
        let published = heartbeat.streams.iter().filter(|stream| is_published(stream) && !stream.is_ended);
        for stream in published {
            if self.0.len() < AWAY_CLASSES_MAX {
                self.0.insert(stream.class.clone(), now);
            }
        }
    }

    /// A publisher is somewhere, or was.
    pub(super) fn on_heartbeat(&mut self, heartbeat: &Heartbeat) {
        heartbeat.streams.iter().filter(|stream| is_published(stream)).for_each(|stream| {
            self.0.remove(&stream.class);
        });
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        self.0.retain(|_, since| now.saturating_duration_since(*since) < AWAY_MAX);
    }
}

fn is_published(stream: &StreamReport) -> bool {
    !stream.is_relayed
}

impl Registry {
    /// What the viewers of a class are to know of its lesson.
    pub fn lesson(&self, class: &str) -> Lesson {
        let Some(located) = self.stream(class) else {
            let away = self.away.0.get(class).copied();
            let phase = if away.is_some() { Phase::Reconnecting } else { Phase::Offline };
            return Lesson::without_stream(phase, away);
        };
        let heard = self.nodes.get(&located.node).map(|node| node.heard);
        let report = located.report;
        let phase = match report.state {
            StreamState::Starting => Phase::Starting,
            StreamState::Active => Phase::Live,
            StreamState::Grace if report.is_ended => Phase::Ended,
            StreamState::Grace => Phase::Reconnecting,
        };
        let since = heard.and_then(|heard| heard.checked_sub(Duration::from_millis(report.since_ms)));
        Lesson {
            phase,
            since,
            viewers: report.viewers,
            playback: report.playback,
            has_video: report.has_video,
            has_audio: report.has_audio,
            width: report.width,
            height: report.height,
            bitrate_bps: report.bitrate_bps,
            problems: report.problems,
        }
    }
}
