//! A lesson made up: 720p, 30 pictures a second with a keyframe in each second, AAC at 128 kbit/s.
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media::{AudioFrame, Frame, MediaTime, VideoConfig, VideoFrame};

/// Bytes of a keyframe.
pub(crate) const KEYFRAME_BYTES: usize = 48_000;
/// Bytes of every other picture at 2.5 Mbit/s.
pub(crate) const PICTURE_BYTES: usize = 9_100;
/// Bytes of every other picture of a blackboard, on which little moves.
pub(crate) const CALM_PICTURE_BYTES: usize = 4_000;
/// Pictures of one group, and of one second.
pub(crate) const GROUP: usize = 30;
/// Slices of a picture, as phones make them.
const SLICES: usize = 4;
/// 128 kbit/s in frames of 1024 samples at 48 kHz.
const AAC_BYTES: usize = 341;
/// An Opus packet of 20 ms at 64 kbit/s.
const OPUS_BYTES: usize = 160;
/// Chunk streams and message types (RTMP 1.0, section 7.1).
const SOUND: (u8, u8) = (4, 8);
const PICTURE: (u8, u8) = (6, 9);

/// Bytes that look like coded media: no zeros, so that nothing takes them for start codes.
fn coded(len: usize) -> Vec<u8> {
    (1..=251_u8).cycle().take(len).collect()
}

/// Whether picture `index` is a keyframe, and its bytes.
fn shape(index: usize, picture_bytes: usize) -> (bool, usize) {
    let keyframe = index.is_multiple_of(GROUP);
    (keyframe, if keyframe { KEYFRAME_BYTES } else { picture_bytes })
}

/// The body of picture `index`'s video message: an FLV tag with its NAL units behind their lengths.
pub(crate) fn video_message(index: usize) -> Bytes {
    let (keyframe, len) = shape(index, PICTURE_BYTES);
    let mut body = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    for _ in 0..SLICES {
        let mut nal = coded(len / SLICES);
        nal.splice(..1, [if keyframe { 0x65 } else { 0x41 }]);
        body.extend_from_slice(&u32::try_from(nal.len()).expect("a slice of a few kB").to_be_bytes());
        body.extend_from_slice(&nal);
    }
    body.into()
}

/// At least `len` bytes of whole messages, cut into chunks of `size` bytes.
pub(crate) fn chunks(len: usize, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let sound = [&[0xaf, 1][..], &coded(AAC_BYTES)].concat();
    let mut is_first = true;
    for index in 0.. {
        push_message(&mut out, PICTURE, is_first, 33, &video_message(index), size);
        push_message(&mut out, SOUND, is_first, 21, &sound, size);
        is_first = false;
        // 47 frames of sound for 30 pictures.
        if index % 2 == 1 {
            push_message(&mut out, SOUND, false, 21, &sound, size);
        }
        if out.len() >= len {
            return out;
        }
    }
    out
}

/// One message: with a full header, or as a step from the one before on the same chunk stream (sections 5.3.1.2.1 and
/// 5.3.1.2.2).
fn push_message(
    out: &mut Vec<u8>,
    (id, kind): (u8, u8),
    is_first: bool,
    step_ms: u8,
    body: &[u8],
    size: usize,
) {
    let [_, l0, l1, l2] = u32::try_from(body.len()).expect("a message of a few kB").to_be_bytes();
    let (format, time) = if is_first { (0, 0) } else { (0x40, step_ms) };
    out.extend_from_slice(&[format | id, 0, 0, time, l0, l1, l2, kind]);
    if is_first {
        out.extend_from_slice(&1_u32.to_le_bytes());
    }
    for (part, bytes) in body.chunks(size).enumerate() {
        if part > 0 {
            out.push(0xc0 | id);
        }
        out.extend_from_slice(bytes);
    }
}

/// What a decoder must know.
pub(crate) fn config() -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        sps: Bytes::from([&[0x67][..], &coded(20)].concat()),
        pps: vec![Bytes::from([&[0x68][..], &coded(4)].concat())],
        profile_level_id: [0x42, 0xe0, 0x1f],
        width: 1280,
        height: 720,
    })
}

/// One group of pictures of a blackboard, each of one slice.
pub(crate) fn group() -> Vec<VideoFrame> {
    let (config, arrival) = (config(), Instant::now());
    let mut time_ms = -33;
    let frame = |index| {
        let (keyframe, len) = shape(index, CALM_PICTURE_BYTES);
        time_ms += 33;
        VideoFrame {
            time: MediaTime::from_millis(time_ms),
            keyframe,
            recovery_point: false,
            config: Arc::clone(&config),
            nals: Arc::new([Bytes::from(coded(len))]),
            arrival,
        }
    };
    (0..GROUP).map(frame).collect()
}

/// Pictures and packets of sound in turn: `count` frames.
pub(crate) fn frames(count: usize) -> Vec<Frame> {
    let packet = Bytes::from(coded(OPUS_BYTES));
    let group = group();
    let sound = |video: &VideoFrame| {
        Frame::Audio(AudioFrame { time: video.time, packet: packet.clone(), arrival: video.arrival })
    };
    group.iter().cycle().flat_map(|video| [Frame::Video(video.clone()), sound(video)]).take(count).collect()
}
