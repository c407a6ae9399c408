//! A publisher: numbered frames of a size that lessons have, packetised as the node does it.
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{AudioFrame, MediaTime, VideoConfig, VideoFrame};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rtc::StreamId;
use rtp::Packets;

/// 50 packets of Opus a second, of 64 kbit/s.
const AUDIO_STEP: Duration = Duration::from_millis(20);
const AUDIO_LEN: usize = 160;
/// How many times faster than they were made frames come that were held back.
const CATCH_UP: u32 = 30;
const TEMPLATE_LEN: usize = 1 << 20;
pub(crate) const SPS: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 1, 2, 3, 4];
/// The first byte of a slice at a recovery point; a real one looks like any other.
pub(crate) const RECOVERY: u8 = 0x21;
pub(crate) const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

/// What is published.
#[derive(Clone, Debug)]
pub(crate) struct Lesson {
    pub(crate) fps: u32,
    /// Frames of a group of pictures.
    pub(crate) group: u64,
    pub(crate) bps: u64,
    /// Bytes of a keyframe.
    pub(crate) keyframe: usize,
    pub(crate) has_audio: bool,
    /// Frames from one recovery point to the next, if there are any.
    pub(crate) recovery: Option<u64>,
    /// The last byte of the sequence parameter set, which tells one publisher from another.
    pub(crate) sps: u8,
}

impl Default for Lesson {
    /// 720p of a phone with a keyframe every two seconds.
    fn default() -> Self {
        Self { fps: 30, group: 60, bps: 2_500_000, keyframe: 70_000, has_audio: true, recovery: None, sps: 4 }
    }
}

impl Lesson {
    /// The same with a keyframe every so many seconds.
    pub(crate) fn with_group(seconds: u64) -> Self {
        let usual = Self::default();
        Self { group: seconds * u64::from(usual.fps), ..usual }
    }
}

/// A lesson that runs.
pub(crate) struct Publisher {
    pub(crate) stream: StreamId,
    lesson: Lesson,
    config: Arc<VideoConfig>,
    began: Instant,
    /// Where the timeline of the stream stands when the lesson begins.
    offset: MediaTime,
    end: Option<Instant>,
    /// From and until when it holds its frames back; they come much faster then than they were made.
    stall: Option<(Instant, Instant)>,
    /// Frames of this publisher so far.
    video: u64,
    audio: u64,
    /// Frames of all publishers so far, which is what they are numbered by.
    numbers: (u64, u64),
    video_packets: rtp::h264::Packetizer,
    audio_packets: rtp::opus::Packetizer,
    rng: StdRng,
}

impl Publisher {
    pub(crate) fn new(stream: StreamId, lesson: Lesson, began: Instant, seed: u64) -> Self {
        let (mut sps, rng) = (SPS.to_vec(), StdRng::seed_from_u64(seed));
        sps.pop();
        sps.push(lesson.sps);
        let config = VideoConfig {
            sps: sps.into(),
            pps: vec![Bytes::from_static(PPS)],
            profile_level_id: [0x42, 0xe0, 0x1f],
            width: 1280,
            height: 720,
        };
        Self {
            stream,
            lesson,
            config: Arc::new(config),
            began,
            offset: MediaTime::ZERO,
            end: None,
            stall: None,
            video: 0,
            audio: 0,
            numbers: (0, 0),
            video_packets: rtp::h264::Packetizer::default(),
            audio_packets: rtp::opus::Packetizer::default(),
            rng,
        }
    }

    /// When the next frame comes.
    pub(crate) fn next(&self) -> Option<Instant> {
        let made = self.next_made();
        (self.end.is_none_or(|end| made < end)).then(|| self.comes(made))
    }

    /// When the next frame is made.
    fn next_made(&self) -> Instant {
        let audio = self.lesson.has_audio.then(|| self.audio_at());
        audio.map_or(self.video_at(), |audio| audio.min(self.video_at()))
    }

    /// When a frame comes that is made then.
    fn comes(&self, made: Instant) -> Instant {
        let Some((from, until)) = self.stall.filter(|(from, _)| made >= *from) else { return made };
        made.max(until + (made - from) / CATCH_UP)
    }

    /// Nothing is published from this moment on.
    pub(crate) fn stop(&mut self, at: Instant) {
        self.end = Some(at);
    }

    /// What is made from now on comes after so long.
    pub(crate) fn stall(&mut self, now: Instant, lasting: Duration) {
        self.stall = Some((now, now + lasting));
    }

    /// Another publisher goes on with the stream from this moment on, with a keyframe.
    pub(crate) fn take_over(&mut self, at: Instant, origin: Instant, lesson: Lesson) {
        let kept = self.config.sps.slice(..SPS.len() - 1);
        let sps: Vec<u8> = kept.iter().copied().chain([lesson.sps]).collect();
        let config = VideoConfig { sps: sps.into(), ..(*self.config).clone() };
        (self.config, self.lesson) = (Arc::new(config), lesson);
        (self.began, self.end, self.video, self.audio) = (at, None, 0, 0);
        self.offset = MediaTime::from_micros(i64::try_from((at - origin).as_micros()).unwrap());
    }

    /// The frames that are made until `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Arc<Packets>> {
        let mut frames = Vec::new();
        while self.next().is_some_and(|comes| comes <= now) {
            let at = self.next_made();
            let is_audio = self.lesson.has_audio && self.audio_at() <= at;
            frames.extend(if is_audio { self.audio_frame(at) } else { self.video_frame(at) });
        }
        frames
    }

    fn video_at(&self) -> Instant {
        self.began + Duration::from_nanos(self.video * 1_000_000_000 / u64::from(self.lesson.fps))
    }

    fn audio_at(&self) -> Instant {
        self.began + AUDIO_STEP * u32::try_from(self.audio).unwrap()
    }

    fn time(&self, at: Instant) -> MediaTime {
        self.offset + MediaTime::from_micros(i64::try_from((at - self.began).as_micros()).unwrap())
    }

    fn video_frame(&mut self, at: Instant) -> Option<Arc<Packets>> {
        let lesson = &self.lesson;
        let is_keyframe = self.video.is_multiple_of(lesson.group);
        let group_bytes = lesson.bps / 8 * lesson.group / u64::from(lesson.fps);
        let others = (lesson.group - 1).max(1);
        let usual = (group_bytes.saturating_sub(lesson.keyframe as u64) / others).max(200);
        let len = if is_keyframe {
            lesson.keyframe
        } else {
            usize::try_from(usual * self.rng.random_range(60..=140) / 100).unwrap()
        };
        let recovery_point =
            !is_keyframe && lesson.recovery.is_some_and(|every| self.video.is_multiple_of(every));
        let mut nal = vec![if is_keyframe {
            0x65
        } else if recovery_point {
            RECOVERY
        } else {
            0x41
        }];
        nal.extend_from_slice(&self.numbers.0.to_be_bytes());
        nal.extend_from_slice(content(self.numbers.0, len));
        self.video += 1;
        self.numbers.0 += 1;
        let frame = VideoFrame {
            time: self.time(at),
            keyframe: is_keyframe,
            config: Arc::clone(&self.config),
            nals: Arc::from([Bytes::from(nal)]),
            arrival: self.comes(at),
            recovery_point,
        };
        self.video_packets.packetize(&frame).map(Arc::new)
    }

    fn audio_frame(&mut self, at: Instant) -> Option<Arc<Packets>> {
        let mut packet = self.numbers.1.to_be_bytes().to_vec();
        packet.extend_from_slice(content(self.numbers.1, AUDIO_LEN));
        self.audio += 1;
        self.numbers.1 += 1;
        let frame = AudioFrame { time: self.time(at), packet: packet.into(), arrival: self.comes(at) };
        self.audio_packets.packetize(&frame).map(Arc::new)
    }
}

/// The number in a NAL unit of a slice or in a packet of audio, if what follows it is undamaged.
pub(crate) fn number_of(numbered: &[u8]) -> Option<u64> {
    let (number, rest) = numbered.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    (rest == content(number, rest.len())).then_some(number)
}

/// What a frame is filled with: bytes that no other frame has at the same place.
fn content(number: u64, len: usize) -> &'static [u8] {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let mut rng = StdRng::seed_from_u64(1);
        (0..TEMPLATE_LEN).map(|_| rng.random()).collect()
    });
    let at = usize::try_from(number % 997).unwrap() * 512;
    &template[at..at + len.min(TEMPLATE_LEN / 2)]
}
