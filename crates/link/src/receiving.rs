//! One subscription at the node that pulls: frames of many QUIC streams back into the order in which they were made. A machine
//! without a clock or a socket.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hub::Place;
use media::{Frame, Track};

use crate::wire::GroupHeader;

/// Groups of one track that may wait for an older one: half a minute of sound.
const GROUPS_MAX: usize = 32;
/// Bytes of one track that may wait: a group as long as the hub keeps any.
const BYTES_MAX: usize = 16 << 20;

/// What came of it.
#[derive(Clone, Debug)]
pub enum Received {
    /// The next frame.
    Frame(Place, Frame),
    /// The rest of this QUIC stream is of no use.
    Stop(u64),
}

/// Where a group is in its epoch's order: epoch, then group.
type Key = (u64, u64);

#[derive(Debug)]
struct Group {
    stream: u64,
    after: Option<u64>,
    /// Frames that wait for an older group.
    frames: VecDeque<(u32, Frame)>,
    /// The index of the frame that comes next.
    next: u32,
    /// When its first frame came.
    begun: Option<Instant>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Incoming {
    groups: BTreeMap<Key, Group>,
    /// What this group and those before it have to give was given.
    passed: Option<Key>,
    /// Who watches has a picture to begin with.
    has_begun: bool,
    bytes: usize,
}

/// One subscription.
#[derive(Debug)]
pub struct Receiving {
    /// How long frames wait for what was made before them and has not come.
    patience: Duration,
    epoch: u64,
    video: Incoming,
    audio: Incoming,
    /// Which track and group a QUIC stream is, while anything of it is wanted.
    streams: BTreeMap<u64, (Track, Key)>,
    received: VecDeque<Received>,
}

impl Receiving {
    /// Frames wait for older ones for `patience`.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            epoch: 0,
            video: Incoming::default(),
            audio: Incoming::default(),
            streams: BTreeMap::new(),
            received: VecDeque::new(),
        }
    }

    /// A publisher begins: its frames are wanted now, and those of the ones before no more.
    pub fn on_epoch(&mut self, now: Instant, epoch: u64) {
        if self.epoch != epoch {
            self.video.has_begun = false;
        }
        self.epoch = epoch;
        self.advance(now, Track::Video);
        self.advance(now, Track::Audio);
    }

    /// A QUIC stream has begun.
    pub fn on_group(&mut self, now: Instant, stream: u64, header: &GroupHeader) {
        let key = (header.first.epoch, header.first.group);
        let is_to_come = key.0 > self.epoch;
        let incoming = self.incoming(header.track);
        if incoming.passed.is_some_and(|passed| key <= passed)
            || incoming.groups.contains_key(&key)
            || (is_to_come && incoming.groups.len() >= GROUPS_MAX)
        {
            self.received.push_back(Received::Stop(stream));
            return;
        }
        let (after, next) = (header.after, header.first.index);
        let group = Group { stream, after, frames: VecDeque::new(), next, begun: None, has_ended: false };
        incoming.groups.insert(key, group);
        self.streams.insert(stream, (header.track, key));
        self.advance(now, header.track);
    }

    /// A frame has come.
    pub fn on_frame(&mut self, now: Instant, stream: u64, index: u32, frame: Frame) {
        let Some((track, key)) = self.streams.get(&stream).copied() else { return };
        let is_to_come = key.0 > self.epoch;
        let incoming = self.incoming(track);
        if is_to_come && incoming.is_full() {
            return;
        }
        let Some(group) = incoming.groups.get_mut(&key) else { return };
        group.begun.get_or_insert(now);
        incoming.bytes += frame.len();
        group.frames.push_back((index, frame));
        self.advance(now, track);
    }

    /// A QUIC stream is at its end, or was given up by who sent it.
    pub fn on_end(&mut self, now: Instant, stream: u64) {
        let Some((track, key)) = self.streams.remove(&stream) else { return };
        if let Some(group) = self.incoming(track).groups.get_mut(&key) {
            group.has_ended = true;
        }
        self.advance(now, track);
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        self.advance(now, Track::Video);
        self.advance(now, Track::Audio);
    }

    /// When [`Self::on_timeout`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        [&self.video, &self.audio]
            .into_iter()
            .filter_map(Incoming::waits_since)
            .min()
            .map(|since| since + self.patience)
    }

    /// What came of it, one by one.
    pub fn poll(&mut self) -> Option<Received> {
        self.received.pop_front()
    }

    fn incoming(&mut self, track: Track) -> &mut Incoming {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }

    /// Gives what can be given, in order.
    fn advance(&mut self, now: Instant, track: Track) {
        let (epoch, patience) = (self.epoch, self.patience);
        let incoming = match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        while let Some((&key, group)) = incoming.groups.first_key_value() {
            if key.0 > epoch {
                return;
            }
            if key.0 == epoch {
                if !incoming.is_next(key, group.after) && !incoming.is_late(now, patience) {
                    return;
                }
                incoming.give(track, key, &mut self.received);
                let has_ended = incoming.groups.get(&key).is_some_and(|group| group.has_ended);
                if !has_ended && !incoming.is_late(now, patience) {
                    return;
                }
            }
            if let Some(group) = incoming.remove(key).filter(|group| !group.has_ended) {
                self.streams.remove(&group.stream);
                self.received.push_back(Received::Stop(group.stream));
            }
        }
    }
}

impl Incoming {
    /// Whether nothing is missing between what was given and this group.
    fn is_next(&self, key: Key, after: Option<u64>) -> bool {
        let Some(after) = after else { return true };
        self.passed.is_some_and(|passed| passed >= (key.0, after))
    }

    /// Since when something newer waits for the oldest group, or for one that has not been heard of.
    fn waits_since(&self) -> Option<Instant> {
        let mut groups = self.groups.iter();
        let (key, first) = groups.next()?;
        if !self.is_next(*key, first.after) {
            return first.begun;
        }
        groups.find_map(|(_, group)| group.begun)
    }

    /// Whether what is missing was waited for long enough.
    fn is_late(&self, now: Instant, patience: Duration) -> bool {
        self.is_full() || self.waits_since().is_some_and(|since| since + patience <= now)
    }

    fn is_full(&self) -> bool {
        self.groups.len() > GROUPS_MAX || self.bytes > BYTES_MAX
    }

    fn remove(&mut self, key: Key) -> Option<Group> {
        let group = self.groups.remove(&key)?;
        self.bytes -= group.frames.iter().map(|(_, frame)| frame.len()).sum::<usize>();
        self.passed = Some(key);
        Some(group)
    }

    /// Gives the frames of a group that are there.
    fn give(&mut self, track: Track, key: Key, received: &mut VecDeque<Received>) {
        let Some(group) = self.groups.get_mut(&key) else { return };
        // What is before it and did not come is not waited for any more.
        group.after = None;
        while let Some((index, frame)) = group.frames.pop_front() {
            self.bytes -= frame.len();
            // Of sound single packets may be missing. A picture needs those before it, and who begins needs a keyframe.
            let is_whole = track == Track::Audio || index == group.next;
            self.has_begun |= track == Track::Audio || frame.is_keyframe();
            if is_whole && self.has_begun {
                group.next = index + 1;
                received.push_back(Received::Frame(Place { epoch: key.0, group: key.1, index }, frame));
            }
        }
    }
}
