//! One subscription at the node that has the stream: which QUIC streams there are, and what goes into them. A machine without a
//! clock or a socket.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Epoch, StreamFrame, Update};
use media::{MediaTime, Track};

use crate::wire::{Announcement, Control, GroupHeader, encode_frame};

/// A group that has not arrived this long after the next one began is given up: who waits for it is late already.
const LATE: Duration = Duration::from_millis(500);
/// One that the next needs, which begins with no keyframe, has this much longer.
const NEEDED_MAX: Duration = Duration::from_secs(5);

/// What is to be done with the connection, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToSend {
    /// Write this on the stream that the subscription began with.
    Control(Bytes),
    /// Open the stream of a group, with this number.
    Open {
        /// What the machine calls it.
        stream: u64,
        /// Sound goes before pictures.
        track: Track,
    },
    /// Write this into it.
    Write {
        /// Which.
        stream: u64,
        /// What.
        bytes: Bytes,
    },
    /// Nothing more goes into it.
    Finish {
        /// Which.
        stream: u64,
    },
    /// Give up what is left of it.
    Reset {
        /// Which.
        stream: u64,
    },
}

/// The group that a track is in.
#[derive(Clone, Copy, Debug)]
struct Open {
    stream: u64,
    group: u64,
}

#[derive(Debug, Default)]
struct Outgoing {
    open: Option<Open>,
    /// The last group of this epoch that was sent.
    last: Option<u64>,
    /// Nothing is sent until a group begins.
    is_gated: bool,
}

/// One subscription.
#[derive(Debug)]
pub struct Sending {
    subscription: u32,
    /// This node.
    node: String,
    epoch: Option<Epoch>,
    video: Outgoing,
    audio: Outgoing,
    /// Groups that are finished and not yet known to have arrived, and since when a newer one is there that needs them no more.
    finished: VecDeque<(u64, Instant)>,
    next_stream: u64,
    /// What a finished group has to arrive.
    patience: Duration,
    to_send: VecDeque<ToSend>,
}

impl Sending {
    /// At `node`, for one that calls its subscription `subscription`.
    pub fn new(subscription: u32, node: &str) -> Self {
        Self {
            subscription,
            node: node.to_owned(),
            epoch: None,
            video: Outgoing::default(),
            audio: Outgoing::default(),
            finished: VecDeque::new(),
            next_stream: 0,
            patience: LATE,
            to_send: VecDeque::new(),
        }
    }

    /// The stream goes on.
    pub fn on_update(&mut self, now: Instant, update: &Update) {
        match update {
            Update::Epoch(epoch) => self.on_epoch(now, epoch),
            Update::Tracks(tracks) => self.control(&Control::Tracks(tracks.clone())),
            Update::Frame(frame) => self.on_frame(now, frame),
            Update::Paused => self.control(&Control::Paused),
        }
    }

    /// The stream is over.
    pub fn on_end(&mut self) {
        self.control(&Control::Ended);
    }

    /// All of a finished group has arrived, or nobody wants it.
    pub fn on_done(&mut self, stream: u64) {
        self.finished.retain(|(finished, _)| *finished != stream);
    }

    /// The connection takes nothing: what has begun is given up, and what begins next goes on.
    pub fn on_blocked(&mut self) {
        for outgoing in [&mut self.video, &mut self.audio] {
            outgoing.is_gated = true;
            if let Some(open) = outgoing.open.take() {
                self.to_send.push_back(ToSend::Reset { stream: open.stream });
            }
        }
    }

    /// The way does not carry everything, or does again. While it does not, a group gives way to the next.
    pub fn on_strain(&mut self, now: Instant, is_strained: bool) {
        self.patience = if is_strained { Duration::ZERO } else { LATE };
        self.on_timeout(now);
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        let (patience, to_send) = (self.patience, &mut self.to_send);
        self.finished.retain(|(stream, since)| {
            let is_late = *since + patience <= now;
            if is_late {
                to_send.push_back(ToSend::Reset { stream: *stream });
            }
            !is_late
        });
    }

    /// When [`Self::on_timeout`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.finished.iter().map(|(_, since)| *since + self.patience).min()
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<ToSend> {
        self.to_send.pop_front()
    }

    fn control(&mut self, control: &Control) {
        self.to_send.push_back(ToSend::Control(control.encode()));
    }

    fn on_epoch(&mut self, now: Instant, epoch: &Epoch) {
        let is_rerouted = self.epoch.as_ref().is_some_and(|known| known.number == epoch.number);
        // Only the way is another one: groups go on.
        if !is_rerouted {
            for track in [Track::Video, Track::Audio] {
                self.finish(track, now);
                *self.outgoing(track) = Outgoing::default();
            }
        }
        let Epoch { number, session, timeline, path } = epoch;
        let path = path.iter().chain([&self.node]).cloned().collect();
        self.control(&Control::Epoch(Announcement {
            epoch: *number,
            session: session.clone(),
            timeline: timeline.id,
            now: elapsed(timeline.zero, now),
            path,
        }));
        self.epoch = Some(epoch.clone());
    }

    fn on_frame(&mut self, now: Instant, item: &StreamFrame) {
        let StreamFrame { place, epoch_time, frame } = item;
        // Notices are dropped before frames where a subscriber is slow.
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != place.epoch) {
            return;
        }
        let track = frame.track();
        let subscription = self.subscription;
        let is_next_group = self.outgoing(track).open.is_none_or(|open| open.group != place.group);
        if is_next_group {
            if self.outgoing(track).is_gated && place.index > 0 {
                return;
            }
            // Who has not got the keyframe yet can do nothing with a group that begins without one.
            let needs_former = track == Track::Video && !frame.is_keyframe();
            self.finish(track, if needs_former { now + NEEDED_MAX } else { now });
            let stream = self.next_stream;
            self.next_stream += 1;
            let outgoing = self.outgoing(track);
            outgoing.is_gated = false;
            outgoing.open = Some(Open { stream, group: place.group });
            let after = outgoing.last.replace(place.group).filter(|last| *last != place.group);
            let header = GroupHeader { subscription, track, first: *place, after };
            self.to_send.push_back(ToSend::Open { stream, track });
            self.to_send.push_back(ToSend::Write { stream, bytes: header.encode() });
        }
        if let Some(Open { stream, .. }) = self.outgoing(track).open {
            let bytes = encode_frame(place.index, *epoch_time, frame, is_next_group);
            self.to_send.push_back(ToSend::Write { stream, bytes });
        }
    }

    fn finish(&mut self, track: Track, since: Instant) {
        if let Some(Open { stream, .. }) = self.outgoing(track).open.take() {
            self.to_send.push_back(ToSend::Finish { stream });
            self.finished.push_back((stream, since));
        }
    }

    fn outgoing(&mut self, track: Track) -> &mut Outgoing {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }
}

/// What a count that was zero then is now.
fn elapsed(zero: Instant, now: Instant) -> MediaTime {
    let micros = |from: Instant, to: Instant| {
        i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX)
    };
    MediaTime::from_micros(micros(zero, now) - micros(now, zero))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hub::{Place, Timeline};
    use media::{AudioFrame, Frame, VideoConfig, VideoFrame};

    use super::*;

    /// A second of sound begins.
    fn group(group: u64, at: Instant) -> Update {
        let (epoch_time, packet) = (MediaTime::ZERO, Bytes::from_static(&[0; 3]));
        let frame = Frame::Audio(AudioFrame { time: epoch_time, packet, arrival: at });
        Update::Frame(Arc::new(StreamFrame { place: Place { epoch: 1, group, index: 0 }, epoch_time, frame }))
    }

    fn resets(sending: &mut Sending) -> Vec<u64> {
        let acts = std::iter::from_fn(|| sending.poll());
        acts.filter_map(|act| if let ToSend::Reset { stream } = act { Some(stream) } else { None }).collect()
    }

    #[test]
    fn a_group_goes_on_when_its_epoch_comes_by_another_way() {
        let (mut sending, now) = (Sending::new(0, "n1"), Instant::now());
        let timeline = Timeline { id: 1, zero: now };
        let mut epoch = Epoch { number: 1, session: String::new(), timeline, path: vec!["n2".to_owned()] };
        sending.on_update(now, &Update::Epoch(epoch.clone()));
        sending.on_update(now, &group(0, now));
        std::iter::from_fn(|| sending.poll()).for_each(drop);
        epoch.path = vec!["n3".to_owned()];
        sending.on_update(now, &Update::Epoch(epoch));
        let acts: Vec<_> = std::iter::from_fn(|| sending.poll()).collect();
        assert!(
            matches!(acts[..], [ToSend::Control(_)]),
            "the other node hears of it, and no more: {acts:?}"
        );
    }

    #[test]
    fn a_group_gives_way_to_the_next_at_once_while_not_everything_is_carried() {
        let (mut sending, now) = (Sending::new(0, "n1"), Instant::now());
        let timeline = Timeline { id: 1, zero: now };
        let epoch = Epoch { number: 1, session: String::new(), timeline, path: Vec::new() };
        sending.on_update(now, &Update::Epoch(epoch));
        sending.on_update(now, &group(0, now));
        sending.on_update(now, &group(1, now));
        assert!(resets(&mut sending).is_empty(), "it has half a second to arrive");
        sending.on_strain(now, true);
        assert_eq!(resets(&mut sending), [0]);
        sending.on_update(now, &group(2, now));
        sending.on_timeout(sending.deadline().unwrap());
        assert_eq!((resets(&mut sending), sending.deadline()), (vec![1], None));
        sending.on_strain(now, false);
        sending.on_update(now, &group(3, now));
        assert_eq!(sending.deadline(), Some(now + LATE));
    }

    #[test]
    fn a_keyframe_is_not_given_up_for_a_group_that_needs_it() {
        const SPS: Bytes = Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70]);
        const PPS: Bytes = Bytes::from_static(&[0x68, 0xcb, 0x83, 0xcb, 0x20]);
        let config = Arc::new(VideoConfig::parse(&SPS, &[PPS]).expect("parameter sets"));
        let (mut sending, now) = (Sending::new(0, "n1"), Instant::now());
        let timeline = Timeline { id: 1, zero: now };
        let epoch = Epoch { number: 1, session: String::new(), timeline, path: Vec::new() };
        sending.on_update(now, &Update::Epoch(epoch));
        sending.on_strain(now, true);
        for (group, keyframe) in [(0, true), (1, false), (2, true)] {
            let (time, config, nals) = (MediaTime::ZERO, Arc::clone(&config), Arc::from([]));
            let video = VideoFrame { time, keyframe, recovery_point: !keyframe, config, nals, arrival: now };
            let (place, frame) = (Place { epoch: 1, group, index: 0 }, Frame::Video(video));
            sending.on_update(now, &Update::Frame(Arc::new(StreamFrame { place, epoch_time: time, frame })));
        }
        sending.on_timeout(now);
        assert_eq!(resets(&mut sending), [1], "which nothing needs any more");
        sending.on_timeout(now + NEEDED_MAX);
        assert_eq!(resets(&mut sending), [0]);
    }
}
