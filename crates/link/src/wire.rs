//! What nodes say to each other, byte by byte. All numbers are big-endian; every length has a bound.
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hub::Place;
use media::{AudioFrame, Frame, MediaTime, Track, Tracks, VideoConfig, VideoFrame};
use thiserror::Error;

/// The version of all this. Nodes of different versions do not understand each other, and say so.
pub(crate) const VERSION: u8 = 1;
/// Bytes of a message that is not media: parameter sets are the longest part of one.
const CONTROL_BYTES_MAX: usize = 16 << 10;
/// Bytes of a frame: what RTMP lets a publisher send, and what is written around it.
const FRAME_BYTES_MAX: usize = 5 << 20;
/// Slices of a picture, as where it was received.
const NALS_MAX: usize = 512;
/// Bytes of names of classes, sessions and nodes.
const NAME_BYTES_MAX: usize = 256;
/// Nodes that a stream has come through.
const HOPS_MAX: usize = 8;

/// What a node that pulls cannot make sense of.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// It is longer than anything we send.
    #[error("a message of {0} bytes is longer than any may be")]
    TooLong(usize),
    /// It ends too early, or a value in it means nothing.
    #[error("the {0} is damaged")]
    Damaged(&'static str),
    /// The other node is older or newer.
    #[error("the other node speaks version {0} of the link, and this one {VERSION}")]
    Version(u8),
}

/// What a node that has a stream says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The number of the publisher.
    pub epoch: u64,
    /// The session that the coordinator opened for it.
    pub session: String,
    /// What media times are counted on.
    pub timeline: u64,
    /// What that count was when this was sent.
    pub now: MediaTime,
    /// The nodes that the stream has come through, the first one that of its publisher, the last one the sender.
    pub path: Vec<String>,
}

/// What travels on the stream that a subscription began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A node wants the stream of a class. Its groups are to bear this number.
    Subscribe {
        /// Which of the connection's subscriptions it is.
        subscription: u32,
        /// The class.
        class: String,
    },
    /// A publisher begins, or this is the one that is there.
    Epoch(Announcement),
    /// Which tracks it has.
    Tracks(Tracks),
    /// It is gone; the stream waits for it.
    Paused,
    /// The stream cannot be had here.
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// The stream is over.
    Ended,
}

impl Control {
    /// As it is written.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        match self {
            Self::Subscribe { subscription, class } => {
                body.put_slice(&[1, VERSION]);
                body.put_u32(*subscription);
                put_text(&mut body, class);
            }
            Self::Epoch(Announcement { epoch, session, timeline, now, path }) => {
                body.put_u8(2);
                body.put_u64(*epoch);
                put_text(&mut body, session);
                body.put_u64(*timeline);
                body.put_i64(now.as_micros());
                body.put_u8(u8::try_from(path.len()).unwrap_or(u8::MAX));
                path.iter().for_each(|node| put_text(&mut body, node));
            }
            Self::Tracks(Tracks { video, audio }) => {
                body.put_slice(&[3, u8::from(*audio), u8::from(video.is_some())]);
                if let Some(config) = video {
                    put_config(&mut body, config);
                }
            }
            Self::Paused => body.put_u8(4),
            Self::Refused { reason } => {
                body.put_u8(5);
                put_text(&mut body, reason);
            }
            Self::Ended => body.put_u8(6),
        }
        with_length(&body)
    }

    fn decode(mut body: Bytes) -> Result<Self, WireError> {
        const DAMAGED: WireError = WireError::Damaged("message");
        let control = match body.try_get_u8().map_err(|_| DAMAGED)? {
            1 => {
                let version = body.try_get_u8().map_err(|_| DAMAGED)?;
                if version != VERSION {
                    return Err(WireError::Version(version));
                }
                let subscription = body.try_get_u32().map_err(|_| DAMAGED)?;
                Self::Subscribe { subscription, class: get_text(&mut body)? }
            }
            2 => {
                let epoch = body.try_get_u64().map_err(|_| DAMAGED)?;
                let session = get_text(&mut body)?;
                let timeline = body.try_get_u64().map_err(|_| DAMAGED)?;
                let now = MediaTime::from_micros(body.try_get_i64().map_err(|_| DAMAGED)?);
                let hops = usize::from(body.try_get_u8().map_err(|_| DAMAGED)?);
                if hops > HOPS_MAX {
                    return Err(DAMAGED);
                }
                let path = (0..hops).map(|_| get_text(&mut body)).collect::<Result<_, _>>()?;
                Self::Epoch(Announcement { epoch, session, timeline, now, path })
            }
            3 => {
                let audio = body.try_get_u8().map_err(|_| DAMAGED)? != 0;
                let has_video = body.try_get_u8().map_err(|_| DAMAGED)? != 0;
                let video = has_video.then(|| get_config(&mut body)).transpose()?;
                Self::Tracks(Tracks { video, audio })
            }
            4 => Self::Paused,
            5 => Self::Refused { reason: get_text(&mut body)? },
            6 => Self::Ended,
            _ => return Err(DAMAGED),
        };
        if body.has_remaining() { Err(DAMAGED) } else { Ok(control) }
    }
}

/// What a stream of one group begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Of which subscription it is.
    pub subscription: u32,
    /// Of which track.
    pub track: Track,
    /// The place of its first frame.
    pub first: Place,
    /// The group of the same epoch that was sent before it, if any.
    pub after: Option<u64>,
}

impl GroupHeader {
    const LEN: usize = 4 + 1 + 8 + 8 + 4 + 8;

    /// As it is written.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::LEN);
        bytes.put_u32(self.subscription);
        bytes.put_u8(match self.track {
            Track::Video => 0,
            Track::Audio => 1,
        });
        bytes.put_u64(self.first.epoch);
        bytes.put_u64(self.first.group);
        bytes.put_u32(self.first.index);
        bytes.put_u64(self.after.unwrap_or(u64::MAX));
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let subscription = bytes.get_u32();
        let track = match bytes.get_u8() {
            0 => Track::Video,
            1 => Track::Audio,
            _ => return Err(WireError::Damaged("head of a group")),
        };
        let first = Place { epoch: bytes.get_u64(), group: bytes.get_u64(), index: bytes.get_u32() };
        let after = Some(bytes.get_u64()).filter(|after| *after != u64::MAX);
        Ok(Self { subscription, track, first, after })
    }
}

const KEYFRAME: u8 = 1;
const RECOVERY_POINT: u8 = 2;
const HAS_CONFIG: u8 = 4;

/// A frame as it is written, with its length. The parameter sets go with the first of a stream.
pub(crate) fn encode_frame(index: u32, time: MediaTime, frame: &Frame, with_config: bool) -> Bytes {
    let mut body = BytesMut::with_capacity(frame.len() + 64);
    body.put_u32(index);
    let is_keyframe = if frame.is_keyframe() { KEYFRAME } else { 0 };
    let is_recovery_point = if frame.is_recovery_point() { RECOVERY_POINT } else { 0 };
    let config = match frame {
        Frame::Video(video) if with_config => Some(&video.config),
        _ => None,
    };
    body.put_u8(is_keyframe | is_recovery_point | if config.is_some() { HAS_CONFIG } else { 0 });
    body.put_i64(time.as_micros());
    if let Some(config) = config {
        put_config(&mut body, config);
    }
    match frame {
        Frame::Video(video) => {
            for nal in video.nals.iter() {
                body.put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
                body.put_slice(nal);
            }
        }
        Frame::Audio(audio) => body.put_slice(&audio.packet),
    }
    with_length(&body)
}

/// Reads the stream of one group: its head, then its frames.
#[derive(Debug, Default)]
pub struct GroupReader {
    buffer: BytesMut,
    header: Option<GroupHeader>,
    config: Option<Arc<VideoConfig>>,
}

impl GroupReader {
    /// More of it has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The head, once it is there.
    pub fn header(&mut self) -> Result<Option<GroupHeader>, WireError> {
        if self.header.is_none() && self.buffer.len() >= GroupHeader::LEN {
            self.header = Some(GroupHeader::decode(self.buffer.split_to(GroupHeader::LEN).freeze())?);
        }
        Ok(self.header)
    }

    /// The next frame, once all of it is there. `now` is when.
    pub fn frame(&mut self, now: Instant) -> Result<Option<(u32, Frame)>, WireError> {
        const DAMAGED: WireError = WireError::Damaged("frame");
        let Some(header) = self.header()? else { return Ok(None) };
        let Some(mut body) = take_with_length(&mut self.buffer, FRAME_BYTES_MAX)? else { return Ok(None) };
        let index = body.try_get_u32().map_err(|_| DAMAGED)?;
        let flags = body.try_get_u8().map_err(|_| DAMAGED)?;
        let time = MediaTime::from_micros(body.try_get_i64().map_err(|_| DAMAGED)?);
        if header.track == Track::Audio {
            return Ok(Some((index, Frame::Audio(AudioFrame { time, packet: body, arrival: now }))));
        }
        if flags & HAS_CONFIG != 0 {
            self.config = Some(get_config(&mut body)?);
        }
        let config = self.config.clone().ok_or(DAMAGED)?;
        let mut nals = Vec::new();
        while body.has_remaining() {
            let len = usize::try_from(body.try_get_u32().map_err(|_| DAMAGED)?).unwrap_or(usize::MAX);
            if len == 0 || len > body.remaining() || nals.len() == NALS_MAX {
                return Err(DAMAGED);
            }
            nals.push(body.split_to(len));
        }
        let (keyframe, recovery_point) = (flags & KEYFRAME != 0, flags & RECOVERY_POINT != 0);
        let frame = VideoFrame { time, keyframe, recovery_point, config, nals: nals.into(), arrival: now };
        Ok(Some((index, Frame::Video(frame))))
    }
}

/// Reads what travels on the stream that a subscription began with.
#[derive(Debug, Default)]
pub struct ControlReader(BytesMut);

impl ControlReader {
    /// More of it has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    pub fn message(&mut self) -> Result<Option<Control>, WireError> {
        take_with_length(&mut self.0, CONTROL_BYTES_MAX)?.map(Control::decode).transpose()
    }
}

fn with_length(body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(body.len() + 4);
    bytes.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    bytes.put_slice(body);
    bytes.freeze()
}

fn take_with_length(buffer: &mut BytesMut, len_max: usize) -> Result<Option<Bytes>, WireError> {
    let Some(len) = buffer.first_chunk() else { return Ok(None) };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len > len_max {
        return Err(WireError::TooLong(len));
    }
    if buffer.len() < len + 4 {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(len).freeze()))
}

fn put_text(body: &mut BytesMut, text: &str) {
    let text = &text.as_bytes()[..text.floor_char_boundary(NAME_BYTES_MAX)];
    body.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    body.put_slice(text);
}

fn get_text(body: &mut Bytes) -> Result<String, WireError> {
    const DAMAGED: WireError = WireError::Damaged("name");
    let text = get_counted(body).filter(|text| text.len() <= NAME_BYTES_MAX).ok_or(DAMAGED)?;
    String::from_utf8(text.into()).map_err(|_| DAMAGED)
}

fn put_config(body: &mut BytesMut, config: &VideoConfig) {
    body.put_u8(u8::try_from(config.pps.len()).unwrap_or(u8::MAX));
    for set in std::iter::once(&config.sps).chain(&config.pps) {
        body.put_u16(u16::try_from(set.len()).unwrap_or(u16::MAX));
        body.put_slice(set);
    }
}

fn get_config(body: &mut Bytes) -> Result<Arc<VideoConfig>, WireError> {
    const DAMAGED: WireError = WireError::Damaged("parameter sets");
    let count = body.try_get_u8().map_err(|_| DAMAGED)?;
    // Copied: they are kept for longer than what they came in.
    let mut set = || get_counted(body).map(|set| Bytes::copy_from_slice(&set)).ok_or(DAMAGED);
    let sps = set()?;
    let pps = (0..count).map(|_| set()).collect::<Result<Vec<_>, _>>()?;
    VideoConfig::parse(&sps, &pps).map(Arc::new).map_err(|_| DAMAGED)
}

fn get_counted(body: &mut Bytes) -> Option<Bytes> {
    let len = usize::from(body.try_get_u16().ok()?);
    (len <= body.remaining()).then(|| body.split_to(len))
}
