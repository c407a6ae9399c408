//! A phone that publishes, as apps do: it connects to one of the nodes, and anew when its connection is gone.
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::Publisher;
use media::{AudioFrame, Frame, MediaTime, Track, Tracks, VideoConfig, VideoFrame};
use rand::Rng;
use rand::rngs::StdRng;

use crate::message::{Address, Body, Host};
use crate::net::Net;

/// From one picture, and one packet of sound, to the next.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// Pictures of a group.
const GROUP: u64 = 20;
/// From a failed attempt to the next.
const RETRY: Duration = Duration::from_secs(1);
/// How long nothing gets through before the app connects anew.
const STALL_MAX: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

static CONFIG: LazyLock<Arc<VideoConfig>> = LazyLock::new(|| {
    let (sps, pps) = (Bytes::from_static(SPS), [Bytes::from_static(PPS)]);
    Arc::new(VideoConfig::parse(&sps, &pps).expect("they are those of an encoder"))
});

/// Which phone a connection is of.
pub(crate) fn index_of(connection: u64) -> usize {
    usize::try_from(connection >> 32 & 0xffff).unwrap_or(0)
}

/// What is published by a connection.
pub(crate) fn class_of(connection: u64) -> usize {
    usize::try_from(connection >> 48).unwrap_or(0)
}

pub(crate) fn tracks() -> Tracks {
    Tracks { video: Some(Arc::clone(&CONFIG)), audio: true }
}

/// A frame that says which it is.
pub(crate) fn frame(now: Instant, publisher: &Publisher, number: u64, track: Track) -> Frame {
    let since = now.saturating_duration_since(publisher.origin());
    let time = MediaTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    let time = time.max(publisher.resume_after() + MediaTime::from_millis(20));
    let content = Bytes::copy_from_slice(&number.to_be_bytes());
    match track {
        Track::Video => Frame::Video(VideoFrame {
            time,
            keyframe: number.is_multiple_of(GROUP),
            recovery_point: false,
            config: Arc::clone(&CONFIG),
            nals: Arc::from([content]),
            arrival: now,
        }),
        Track::Audio => Frame::Audio(AudioFrame { time, packet: content, arrival: now }),
    }
}

/// What a frame says.
pub(crate) fn number_of(frame: &Frame) -> u64 {
    let content = match frame {
        Frame::Video(video) => video.nals.first().cloned().unwrap_or_default(),
        Frame::Audio(audio) => audio.packet.clone(),
    };
    content.first_chunk().map_or(u64::MAX, |number| u64::from_be_bytes(*number))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Until then.
    Away(Instant),
    Connecting {
        node: usize,
        connection: u64,
        until: Instant,
    },
    Publishing {
        node: usize,
        connection: u64,
        stalled: Option<Instant>,
    },
}

#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) index: usize,
    pub(crate) class: usize,
    pub(crate) state: State,
    connections: u64,
    number: u64,
    next_frame: Instant,
    /// It ends then for good.
    pub(crate) leaves: Option<Instant>,
    /// It was told to go, by somebody who has taken over, and comes back when that one is gone.
    pub(crate) is_displaced: bool,
}

impl Phone {
    pub(crate) fn new(index: usize, class: usize, begins: Instant) -> Self {
        let (connections, number) = (0, 0);
        let state = State::Away(begins);
        Self {
            index,
            class,
            state,
            connections,
            number,
            next_frame: begins,
            leaves: None,
            is_displaced: false,
        }
    }

    fn address(&self) -> Address {
        Address { host: Host::Phone(self.index), life: 0 }
    }

    pub(crate) fn connect(&mut self, now: Instant, net: &mut Net, node: usize) {
        self.connections += 1;
        let number = |value: usize| u64::try_from(value).unwrap_or(0);
        let connection = number(self.class) << 48 | number(self.index) << 32 | self.connections;
        self.state = State::Connecting { node, connection, until: now + CONNECT_TIMEOUT };
        net.send(now, self.address(), Address::whoever(Host::Node(node)), Body::Connect { connection });
    }

    /// Whether it is let in, or was told to go.
    pub(crate) fn on_message(&mut self, now: Instant, body: &Body) {
        let (of, is_accepted) = match body {
            Body::Accepted { connection, is_accepted } => (*connection, *is_accepted),
            Body::Refused { asked } => match &**asked {
                Body::Connect { connection } => (*connection, false),
                _ => return,
            },
            _ => return,
        };
        match self.state {
            State::Connecting { node, connection, .. } if connection == of => {
                self.state = State::Away(now + RETRY);
                if is_accepted {
                    self.state = State::Publishing { node, connection, stalled: None };
                    // Encoders begin with a keyframe.
                    self.number = self.number.next_multiple_of(GROUP);
                    self.next_frame = now;
                }
            }
            State::Publishing { connection, .. } if connection == of && !is_accepted => {
                self.state = State::Away(now + RETRY);
                self.is_displaced = true;
            }
            _ => {}
        }
    }

    /// Looks whether it is to connect, and to which node of so many.
    pub(crate) fn poll(&mut self, now: Instant, net: &mut Net, rng: &mut StdRng, nodes: usize) {
        match self.state {
            State::Away(until)
                if until <= now && !self.is_displaced && self.leaves.is_none_or(|at| now < at) =>
            {
                let node = rng.random_range(0..nodes);
                self.connect(now, net, node);
            }
            State::Connecting { until, .. } if until <= now => self.state = State::Away(now + RETRY),
            _ => {}
        }
    }

    /// The frame that is due, and to which connection of which node it goes.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(usize, u64, u64)> {
        let State::Publishing { node, connection, .. } = self.state else { return None };
        if now < self.next_frame {
            return None;
        }
        self.next_frame += FRAME_INTERVAL;
        let number = self.number;
        self.number += 1;
        Some((node, connection, number))
    }

    /// Whether that frame got through; with a connection that is not there any more the app connects anew soon.
    pub(crate) fn on_sent(&mut self, now: Instant, outcome: Sent) {
        let State::Publishing { stalled, .. } = &mut self.state else { return };
        match outcome {
            Sent::Through => *stalled = None,
            Sent::Stalled => {
                if now.saturating_duration_since(*stalled.get_or_insert(now)) >= STALL_MAX {
                    self.state = State::Away(now);
                }
            }
            Sent::Reset => self.state = State::Away(now + RETRY),
        }
    }

    pub(crate) fn is_publishing(&self) -> bool {
        matches!(self.state, State::Publishing { stalled: None, .. })
    }
}

/// What became of a frame on its way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Through,
    /// Nothing comes back, not even that nobody is there.
    Stalled,
    /// Nobody has the connection.
    Reset,
}
