//! One stream: its state, its subscribers and its GOP cache.
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{Frame, MediaTime, Track, Tracks};
use tokio_util::sync::CancellationToken;

use crate::epoch::{Epoch, Shift, Timeline};
use crate::gop::Gop;
use crate::keyframe::Keyframe;
use crate::place::{Place, Places, StreamFrame};
use crate::queue::{Queue, Subscription, Update};
use crate::stats::Stats;

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A publisher has been accepted; which tracks it sends is not known yet.
    Starting,
    /// Frames flow.
    Active,
    /// The publisher is gone; viewers stay until the grace period ends.
    Grace,
}

/// Something that the teacher should know about the stream, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable name for programs: `b_frames_dropped`.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

/// What a stream says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// The class it belongs to.
    pub name: String,
    /// The session that the coordinator opened for the publisher.
    pub session: String,
    /// Where it is in its life.
    pub state: State,
    /// How long it has been in that state.
    pub since: Duration,
    /// In [`State::Grace`]: its publisher said that the lesson is over.
    pub is_ended: bool,
    /// The instant at which the media timeline is zero.
    pub origin: Instant,
    /// What the publisher sends.
    pub tracks: Tracks,
    /// Bytes of coded media received in this epoch.
    pub bytes: u64,
    /// Coded media over the last full second or so, in bits per second.
    pub bitrate_bps: u64,
    /// The number of its publisher; each has a greater one than those before.
    pub epoch: u64,
    /// What its publisher was let in with, as [`crate::Publisher::set_key`] says it.
    pub key: String,
    /// Whether it comes from another node.
    pub is_relayed: bool,
    /// Who takes it here: the packetiser, and nodes that it is passed on to.
    pub subscribers: usize,
    /// What is wrong, if anything.
    pub problems: Vec<Problem>,
}

/// The state behind the lock of one stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) session: String,
    pub(crate) epoch: u64,
    pub(crate) state: State,
    pub(crate) state_since: Instant,
    /// Its publisher said that it is over.
    is_ended: bool,
    /// The instant at which the media timeline is zero.
    pub(crate) origin: Instant,
    /// The latest time on the timeline so far; the next epoch continues after it.
    pub(crate) latest: Option<MediaTime>,
    pub(crate) problems: Vec<Problem>,
    /// Cancelled when another publisher takes over or the stream is removed.
    pub(crate) superseded: CancellationToken,
    /// Cancelled before that when its publisher may not publish any more.
    pub(crate) revoked: CancellationToken,
    pub(crate) key: String,
    pub(crate) is_relayed: bool,
    path: Vec<String>,
    /// What frames' times are counted on where they were made, and what they are here.
    timeline: Timeline,
    /// From a timeline of other nodes to this one; nothing where frames are made here.
    shift: Option<Shift>,
    /// No frame of the relayed epoch was taken yet.
    is_before_first: bool,
    places: Places,
    tracks: Tracks,
    gop: Gop,
    subscribers: Vec<Arc<Queue>>,
    bytes: u64,
    rate: Rate,
    stats: Stats,
}

impl Stream {
    pub(crate) fn new(name: &str, origin: Instant, now: Instant, stats: Stats) -> Self {
        Self {
            name: name.to_owned(),
            session: String::new(),
            epoch: 0,
            state: State::Starting,
            state_since: now,
            is_ended: false,
            origin,
            latest: None,
            problems: Vec::new(),
            superseded: CancellationToken::new(),
            revoked: CancellationToken::new(),
            key: String::new(),
            is_relayed: false,
            path: Vec::new(),
            timeline: Timeline { id: rand::random(), zero: origin },
            shift: None,
            is_before_first: true,
            places: Places::default(),
            tracks: Tracks::default(),
            gop: Gop::default(),
            subscribers: Vec::new(),
            bytes: 0,
            rate: Rate::default(),
            stats,
        }
    }

    /// Opens the epoch of a publisher of this node; who published before, if one is left, is told to go.
    pub(crate) fn begin_epoch(&mut self, number: u64, session: &str, now: Instant) {
        self.is_relayed = false;
        self.path.clear();
        if self.shift.take().is_some() {
            // Frames were counted on another node's timeline before.
            self.timeline = Timeline { id: rand::random(), zero: self.origin };
        }
        self.begin(number, session, now);
    }

    /// Opens the epoch of a publisher of another node, or takes it up again from another one that passes it on.
    pub(crate) fn begin_relay(&mut self, epoch: &Epoch, now: Instant) {
        let is_rerouted = self.path != epoch.path;
        self.path.clone_from(&epoch.path);
        if self.is_relayed && self.epoch == epoch.number {
            self.replace_token();
            if is_rerouted {
                // Who has it from here must know, so that it never comes back to where it was.
                let epoch = self.current_epoch();
                self.tell(&Update::Epoch(epoch));
            }
            return;
        }
        self.is_relayed = true;
        self.timeline = epoch.timeline;
        if self.shift.is_none_or(|shift| shift.timeline != epoch.timeline.id) {
            self.shift = Some(Shift::new(&epoch.timeline, self.origin));
        }
        self.is_before_first = true;
        self.begin(epoch.number, &epoch.session, now);
    }

    fn begin(&mut self, number: u64, session: &str, now: Instant) {
        self.replace_token();
        self.revoked = CancellationToken::new();
        self.key.clear();
        self.epoch = number;
        session.clone_into(&mut self.session);
        self.is_ended = false;
        self.problems.clear();
        self.gop.clear();
        self.bytes = 0;
        self.rate = Rate::default();
        self.enter(State::Starting, now);
        let epoch = self.current_epoch();
        self.tell(&Update::Epoch(epoch));
    }

    fn replace_token(&mut self) {
        self.superseded.cancel();
        self.superseded = CancellationToken::new();
    }

    fn current_epoch(&self) -> Epoch {
        let (session, path) = (self.session.clone(), self.path.clone());
        Epoch { number: self.epoch, session, timeline: self.timeline, path }
    }

    pub(crate) fn set_tracks(&mut self, tracks: &Tracks, now: Instant) {
        if self.state == State::Active && self.tracks == *tracks {
            return;
        }
        self.tracks = tracks.clone();
        self.enter(State::Active, now);
        self.tell(&Update::Tracks(tracks.clone()));
    }

    /// Takes a frame that was made here.
    pub(crate) fn push(&mut self, frame: Frame) {
        let place = self.places.next(self.epoch, &frame);
        self.pass(StreamFrame { place, epoch_time: frame.time(), frame });
    }

    /// Takes a frame that another node has passed on, and that is counted on the epoch's timeline. False if it was here before.
    pub(crate) fn relay(&mut self, place: Place, mut frame: Frame) -> bool {
        let Some(shift) = &mut self.shift else { return false };
        if place.epoch != self.epoch || !self.places.admit(frame.track(), place) {
            return false;
        }
        let epoch_time = frame.time();
        if std::mem::take(&mut self.is_before_first)
            && let Some(latest) = self.latest
        {
            shift.put_after(epoch_time, latest);
        }
        frame.set_time(epoch_time + shift.by);
        self.pass(StreamFrame { place, epoch_time, frame });
        true
    }

    fn pass(&mut self, item: StreamFrame) {
        let item = Arc::new(item);
        let frame = &item.frame;
        let len = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(len);
        self.latest = self.latest.max(Some(frame.time()));
        self.rate.on_bytes(len, frame.arrival());
        if frame.track() == Track::Video && self.gop.push(&item) {
            self.stats.on_group_cut();
        }
        self.tell(&Update::Frame(item));
    }

    /// Its publisher says that it is over, and is about to go.
    pub(crate) fn end(&mut self) {
        self.is_ended = true;
    }

    pub(crate) fn pause(&mut self, now: Instant) {
        self.enter(State::Grace, now);
        self.tell(&Update::Paused);
    }

    pub(crate) fn supersede(&mut self, epoch: u64, now: Instant) {
        if epoch > self.epoch && !self.is_relayed && !self.superseded.is_cancelled() {
            self.superseded.cancel();
            self.pause(now);
        }
    }

    /// Its publisher is told to go, and the stream waits for one who may publish. False if there is none.
    pub(crate) fn revoke(&mut self, now: Instant) -> bool {
        let is_published = !self.is_relayed && !self.superseded.is_cancelled() && self.state != State::Grace;
        if is_published {
            // In this order: whoever learns that it has to go finds out why.
            self.revoked.cancel();
            self.superseded.cancel();
            self.pause(now);
        }
        is_published
    }

    pub(crate) fn close(&mut self) {
        self.superseded.cancel();
        for queue in self.subscribers.drain(..) {
            queue.close();
        }
    }

    /// The group of pictures so far, then everything after it, with nothing missing in between; where the group was cut,
    /// its keyframe, and video from the next keyframe on.
    pub(crate) fn subscribe(&mut self) -> Subscription {
        let mut updates = vec![Update::Epoch(self.current_epoch())];
        if self.state != State::Starting {
            updates.push(Update::Tracks(self.tracks.clone()));
        }
        updates.extend(self.gop.snapshot().map(Update::Frame));
        if self.state == State::Grace {
            updates.push(Update::Paused);
        }
        let queue = Arc::new(Queue::new(updates, self.gop.is_cut(), self.stats.clone()));
        self.subscribers.push(Arc::clone(&queue));
        Subscription { queue }
    }

    /// The newest keyframe of this epoch, while there is a picture.
    pub(crate) fn keyframe(&mut self) -> Option<Keyframe> {
        self.tracks.video.as_ref().and_then(|_| self.gop.keyframe())
    }

    pub(crate) fn status(&self, now: Instant) -> Status {
        Status {
            name: self.name.clone(),
            session: self.session.clone(),
            state: self.state,
            since: now.saturating_duration_since(self.state_since),
            is_ended: self.is_ended,
            origin: self.origin,
            tracks: self.tracks.clone(),
            bytes: self.bytes,
            bitrate_bps: self.rate.bps(now),
            epoch: self.epoch,
            key: self.key.clone(),
            is_relayed: self.is_relayed,
            subscribers: self.subscribers(),
            problems: self.problems.clone(),
        }
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.iter().filter(|queue| !queue.is_closed()).count()
    }

    fn enter(&mut self, state: State, now: Instant) {
        if self.state != state {
            self.state = state;
            self.state_since = now;
        }
    }

    fn tell(&mut self, update: &Update) {
        self.subscribers.retain(|queue| queue.push(update.clone()));
    }
}

/// Bytes counted over windows of a second.
#[derive(Debug, Default)]
struct Rate {
    window_start: Option<Instant>,
    window_bytes: u64,
    bps: u64,
}

impl Rate {
    /// Of the last whole second; nothing once nothing has come for two.
    fn bps(&self, now: Instant) -> u64 {
        let is_old = |start: Instant| now.saturating_duration_since(start) > Duration::from_secs(2);
        if self.window_start.is_some_and(is_old) { 0 } else { self.bps }
    }

    fn on_bytes(&mut self, bytes: u64, now: Instant) {
        let start = *self.window_start.get_or_insert(now);
        let elapsed_ms = u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms >= 1000 {
            self.bps = self.window_bytes.saturating_mul(8000) / elapsed_ms;
            self.window_start = Some(now);
            self.window_bytes = 0;
        }
        self.window_bytes = self.window_bytes.saturating_add(bytes);
    }
}
