//! When a node reports to one coordinator, and what it makes of the answers. A machine without a clock or a socket.
use std::time::{Duration, Instant};

use control::api::{HeartbeatAnswer, Playback, StreamProblem, StreamReport, StreamState, Superseded};
use hub::{Hub, State, Status};
use media::Tracks;

/// How often a node reports when nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often while somebody watches a lesson whose publisher is gone.
const INTERVAL_WAITING: Duration = Duration::from_millis(200);
/// The least time between two reports when much changes.
const PAUSE: Duration = Duration::from_millis(50);

/// From one heartbeat to the next, of those to one coordinator. The first is due at once.
#[derive(Debug, Default)]
pub struct Beat {
    /// When the last one was answered, or failed.
    over: Option<Instant>,
    /// Something has changed since it was sent.
    is_changed: bool,
    is_reachable: bool,
}

/// Whether a coordinator answers has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It did not answer before, or has not been asked.
    Found,
    /// It answered before.
    Lost,
}

impl Beat {
    /// One is sent, which says what is now.
    pub fn on_sent(&mut self) {
        self.is_changed = false;
    }

    /// It was answered, or not. Tells whether that is new.
    pub fn on_outcome(&mut self, now: Instant, is_answered: bool) -> Option<Reach> {
        self.over = Some(now);
        match (std::mem::replace(&mut self.is_reachable, is_answered), is_answered) {
            (false, true) => Some(Reach::Found),
            (true, false) => Some(Reach::Lost),
            _ => None,
        }
    }

    /// A stream has changed, or whether the node drains.
    pub fn on_change(&mut self) {
        self.is_changed = true;
    }

    /// When the next one is due, unless one is under way.
    pub fn due(&self, hub: &Hub) -> Option<Instant> {
        let wait = if self.is_changed { Duration::ZERO } else { interval(hub) };
        self.over.map(|over| over + PAUSE + wait)
    }
}

/// Who watches a lesson whose teacher is gone waits for a word of where he is.
fn interval(hub: &Hub) -> Duration {
    let is_waited_for = |status: &Status| status.state == State::Grace && status.subscribers > 0;
    if hub.statuses().iter().any(is_waited_for) { INTERVAL_WAITING } else { INTERVAL }
}

/// Lets go of the streams whose publishers are at other nodes by now. Returns the classes that are watched here and so wanted
/// from there.
pub fn obey(hub: &Hub, answer: &HeartbeatAnswer) -> Vec<String> {
    let mut wanted = Vec::new();
    for Superseded { class, epoch } in &answer.superseded {
        hub.supersede(class, *epoch);
        if hub.status(class).is_some_and(|status| status.subscribers > 0) {
            wanted.push(class.clone());
        }
    }
    wanted
}

/// What a node reports of its streams.
pub fn reports(hub: &Hub, audience: impl Fn(&str) -> (u32, Playback)) -> Vec<StreamReport> {
    hub.statuses().into_iter().map(|status| report(audience(&status.name), status)).collect()
}

fn report((viewers, playback): (u32, Playback), status: Status) -> StreamReport {
    let problems = status.problems.into_iter();
    // Until the publisher's own are known, they are those of the one before.
    let tracks = if status.state == State::Starting { Tracks::default() } else { status.tracks };
    StreamReport {
        viewers,
        playback,
        class: status.name,
        session: status.session,
        epoch: status.epoch,
        key: status.key,
        is_relayed: status.is_relayed,
        state: match status.state {
            State::Starting => StreamState::Starting,
            State::Active => StreamState::Active,
            State::Grace => StreamState::Grace,
        },
        since_ms: u64::try_from(status.since.as_millis()).unwrap_or(u64::MAX),
        is_ended: status.is_ended,
        has_video: tracks.video.is_some(),
        has_audio: tracks.audio,
        width: tracks.video.as_ref().map_or(0, |video| video.width),
        height: tracks.video.as_ref().map_or(0, |video| video.height),
        bitrate_bps: status.bitrate_bps,
        problems: problems
            .map(|problem| StreamProblem { code: problem.code.to_owned(), text: problem.text })
            .collect(),
    }
}
