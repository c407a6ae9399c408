//! A made-up stream: pictures of wanted sizes at an even rate, and silence.
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;

use super::message::{Kind, Message};
use super::picture::{PPS, Picture, SPS};
use super::stamp::MARK_LEN;

/// MPEG-4 audio, section 1.6.2.1: AAC-LC, 48 kHz, two channels.
const AUDIO_CONFIG: [u8; 4] = [0xaf, 0x00, 0x11, 0x90];
/// One frame of silence, as ffmpeg's encoder writes it.
const SILENCE: [u8; 8] = [0xaf, 0x01, 0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c];
/// Samples of an AAC frame and of a second.
const AUDIO_FRAME: u64 = 1024;
const AUDIO_RATE: u64 = 48_000;
/// Bytes of a fragment that are not the NAL unit's: indicator and header (RFC 6184, section 5.8).
const FRAGMENT_HEADER_LEN: usize = 2;
/// Bytes of a picture at most: 3,600 raw macroblocks.
const PICTURE_BYTES_MAX: f64 = 1.3e6;
/// Pictures from one IDR picture to the next at most: ten minutes at 60 a second.
const GOP_MAX: u64 = 36_000;

/// What the stream is to look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Pictures per second.
    pub(super) fps: f64,
    /// From one IDR picture to the next.
    pub(super) gop: Duration,
    /// RTP packets of an IDR picture.
    pub(super) keyframe_packets: usize,
    /// Bytes of an RTP payload.
    pub(super) payload: usize,
    pub(super) rate: Rate,
    pub(super) has_audio: bool,
    /// Whether a mark will be put behind every picture, which then is shorter by that.
    pub(super) leaves_room: bool,
}

/// How much video there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// Bits per second.
    Bitrate(f64),
    /// RTP packets per second, parameter sets included.
    Packets(f64),
}

/// The messages of one stream, in order.
#[derive(Debug)]
pub(super) struct Synthetic {
    shape: Shape,
    /// Pictures from one IDR picture to the next.
    gop: u64,
    /// What the pictures between two IDR pictures have on average: bytes, or packets.
    mean: f64,
    pictures: u64,
    audio_frames: u64,
    opening: usize,
}

impl Synthetic {
    pub(super) fn new(shape: Shape) -> anyhow::Result<Self> {
        ensure!((1.0..=240.0).contains(&shape.fps), "--fps must be 1 to 240");
        let gop = (shape.fps * shape.gop.as_secs_f64()).round();
        ensure!((1.0..=as_f64(GOP_MAX)).contains(&gop), "--gop must be 1 to {GOP_MAX} pictures");
        ensure!((200..=60_000).contains(&shape.payload), "--payload must be 200 to 60000 bytes");
        ensure!(shape.keyframe_packets > 0, "--keyframe-packets must not be 0");
        let keyframe_bytes = shape.bytes(shape.keyframe_packets);
        ensure!(
            (4_000.0..PICTURE_BYTES_MAX).contains(&as_f64(keyframe_bytes as u64)),
            "a keyframe of {keyframe_bytes} bytes cannot be made: 4000 to {PICTURE_BYTES_MAX} can"
        );
        let seconds = gop / shape.fps;
        let keyframe_bytes = as_f64(keyframe_bytes as u64);
        let left = match shape.rate {
            Rate::Bitrate(bps) => bps / 8.0 * seconds - keyframe_bytes,
            // The parameter sets before a keyframe travel in a packet of their own.
            Rate::Packets(per_second) => per_second * seconds - as_f64(shape.keyframe_packets as u64) - 1.0,
        };
        let mean = if gop > 1.0 { left / (gop - 1.0) } else { 0.0 };
        let least = if matches!(shape.rate, Rate::Bitrate(_)) { 100.0 } else { 1.0 };
        ensure!(
            gop <= 1.0 || mean >= least,
            "the keyframes leave nothing for the pictures between: ask for smaller or fewer ones"
        );
        let bytes = if least > 1.0 { mean } else { mean * as_f64(shape.payload as u64) };
        ensure!(bytes < PICTURE_BYTES_MAX, "pictures of {bytes:.0} bytes cannot be made");
        Ok(Self { shape, gop: whole(gop), mean, pictures: 0, audio_frames: 0, opening: 0 })
    }

    /// The next message. A picture is made here, so call when it is due.
    pub(super) fn next(&mut self) -> Message {
        self.opening += 1;
        match self.opening {
            1 => return Message::new(Kind::Metadata, Duration::ZERO, Bytes::new()),
            2 => return Message::new(Kind::Video, Duration::ZERO, video_config()),
            3 if self.shape.has_audio => {
                return Message::new(Kind::Audio, Duration::ZERO, Bytes::from_static(&AUDIO_CONFIG));
            }
            _ => {}
        }
        let video_due = Duration::from_secs_f64(as_f64(self.pictures) / self.shape.fps);
        let audio_due = audio_time(self.audio_frames);
        if self.shape.has_audio && audio_due < video_due {
            self.audio_frames += 1;
            return Message::new(Kind::Audio, audio_due, Bytes::from_static(&SILENCE));
        }
        let number = self.pictures;
        let picture = Picture { number, since_idr: number % self.gop, idr: number / self.gop };
        let mut len = self.picture_len(picture.since_idr);
        if self.shape.leaves_room {
            len = len.saturating_sub(MARK_LEN);
        }
        self.pictures += 1;
        Message::new(Kind::Video, video_due, video_body(picture.since_idr == 0, &picture.build(len)))
    }

    /// Bytes of the picture that many after an IDR picture. What is rounded off one is given to the next.
    fn picture_len(&self, since_idr: u64) -> usize {
        if since_idr == 0 {
            return self.shape.bytes(self.shape.keyframe_packets);
        }
        let until = |count: u64| whole((as_f64(count) * self.mean).round());
        let amount = usize::try_from(until(since_idr) - until(since_idr - 1)).unwrap_or(usize::MAX);
        if matches!(self.shape.rate, Rate::Packets(_)) { self.shape.bytes(amount.max(1)) } else { amount }
    }
}

impl Shape {
    /// Bytes of a NAL unit that fills `packets` RTP payloads.
    fn bytes(&self, packets: usize) -> usize {
        // One packet is the unit itself. The header of a unit in fragments travels in theirs.
        if packets <= 1 { self.payload } else { 1 + packets * (self.payload - FRAGMENT_HEADER_LEN) }
    }
}

/// When an AAC frame begins.
fn audio_time(frames: u64) -> Duration {
    Duration::from_micros(frames * AUDIO_FRAME * 1_000_000 / AUDIO_RATE)
}

/// An AVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 5.3.3.1) in FLV's video tag.
fn video_config() -> Bytes {
    let [_, profile, constraints, level, ..] = SPS;
    let mut body = vec![0x17, 0, 0, 0, 0, 1, profile, constraints, level, 0xff, 0xe1];
    push_set(&mut body, &SPS);
    body.push(1);
    push_set(&mut body, &PPS);
    body.into()
}

fn push_set(body: &mut Vec<u8>, set: &[u8]) {
    body.extend_from_slice(&u16::try_from(set.len()).expect("a few bytes").to_be_bytes());
    body.extend_from_slice(set);
}

fn video_body(is_idr: bool, nal: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(9 + nal.len());
    body.extend_from_slice(&[if is_idr { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
    body.extend_from_slice(&u32::try_from(nal.len()).expect("bounded by PICTURE_BYTES_MAX").to_be_bytes());
    body.extend_from_slice(nal);
    body.into()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be positive and not large"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use media::flv::VideoTag;

    use super::*;

    const SHAPE: Shape = Shape {
        fps: 30.0,
        gop: Duration::from_secs(2),
        keyframe_packets: 40,
        payload: 1160,
        rate: Rate::Packets(128.0),
        has_audio: true,
        leaves_room: false,
    };

    /// Bytes of the NAL units of so many pictures.
    fn pictures(shape: Shape, count: usize) -> Vec<usize> {
        let mut stream = Synthetic::new(shape).unwrap();
        let mut found = Vec::new();
        while found.len() < count {
            let message = stream.next();
            if message.kind == Kind::Video
                && let VideoTag::Frame { data, .. } = VideoTag::parse(message.body).unwrap()
            {
                found.push(data.len() - 4);
            }
        }
        found
    }

    #[test]
    fn a_server_makes_the_wanted_number_of_packets() {
        let packets = |max: usize| {
            let of = |len: usize| if len <= max { 1 } else { (len - 1).div_ceil(max - 2) };
            // 60 seconds, and the parameter sets of 30 keyframes.
            pictures(SHAPE, 1800).into_iter().map(of).sum::<usize>() + 30
        };
        assert_eq!(packets(1160), 128 * 60);
        let keyframe = pictures(SHAPE, 1)[0];
        assert_eq!(keyframe, 1 + 40 * 1158);
        assert!(packets(1200) > 126 * 60, "a little more room changes little");
    }

    #[test]
    fn the_bit_rate_is_the_wanted_one() {
        let bytes: usize = pictures(Shape { rate: Rate::Bitrate(1.1e6), ..SHAPE }, 600).into_iter().sum();
        assert!((bytes * 8 / 20).abs_diff(1_100_000) < 1_000, "{bytes} bytes in 20 s");
    }

    #[test]
    fn sound_and_pictures_come_in_the_order_of_their_times() {
        let mut stream = Synthetic::new(SHAPE).unwrap();
        let messages: Vec<Message> = (0..1000).map(|_| stream.next()).collect();
        assert!(messages.is_sorted_by_key(|message| message.due));
        let of = |kind| messages.iter().filter(|message| message.kind == kind).count();
        assert!(of(Kind::Audio).abs_diff(of(Kind::Video) * 46_875 / 30_000) < 5);
    }

    #[test]
    fn impossible_shapes_are_refused() {
        for bad in [
            Shape { fps: 0.0, ..SHAPE },
            Shape { gop: Duration::ZERO, ..SHAPE },
            Shape { keyframe_packets: 1, ..SHAPE },
            Shape { keyframe_packets: 5_000, ..SHAPE },
            Shape { rate: Rate::Packets(20.0), ..SHAPE },
            Shape { rate: Rate::Bitrate(1e5), ..SHAPE },
            Shape { rate: Rate::Bitrate(1e12), ..SHAPE },
        ] {
            assert!(Synthetic::new(bad).is_err(), "{bad:?}");
        }
    }
}
