//! A file in a loop.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use media::flv::file::{Tag, Tags};

use super::message::{Kind, Message};

/// Bytes of a file at most: it is held in memory, once for all publishers.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Between the last tag of one round and the first of the next: a frame at 25 a second.
const ROUND_GAP: Duration = Duration::from_millis(40);
/// Message types.
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// The first byte of a tag of video in its upper half: a keyframe. The second: NAL units, not parameters.
const KEYFRAME: u8 = 1;
const NAL_UNITS: u8 = 1;

/// Bytes of a packet's payload, as Lectern cuts pictures.
const PAYLOAD: usize = 1160;
/// What a link carries beside them: Ethernet, IP, UDP, RTP, the seal of AES-GCM.
const AROUND_PAYLOAD: usize = 14 + 20 + 8 + 12 + 16;

/// The sound and pictures of an FLV file.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    tags: Arc<[Tag]>,
}

impl Recording {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("{}", path.display());
        let len = std::fs::metadata(path).with_context(context)?.len();
        ensure!(len <= FILE_BYTES_MAX, "{}: more than {FILE_BYTES_MAX} bytes", path.display());
        let tags = Tags::parse(std::fs::read(path).with_context(context)?.into());
        let Some(tags) = tags else { bail!("{} is no FLV file", path.display()) };
        let tags: Arc<[Tag]> = tags.filter(|tag| matches!(tag.kind, AUDIO | VIDEO)).collect();
        ensure!(!tags.is_empty(), "{} holds neither sound nor pictures", path.display());
        Ok(Self { tags })
    }

    /// When its keyframes are due, from the beginning.
    pub(crate) fn keyframes(&self) -> Vec<Duration> {
        let is_keyframe = |tag: &&Tag| {
            tag.kind == VIDEO
                && tag.body.first_chunk().is_some_and(|[a, b]| (a >> 4, *b) == (KEYFRAME, NAL_UNITS))
        };
        self.tags.iter().filter(is_keyframe).map(|tag| self.due(tag)).collect()
    }

    /// From the beginning of one round to that of the next.
    pub(crate) fn round(&self) -> Duration {
        self.tags.iter().map(|tag| self.due(tag)).max().unwrap_or_default() + ROUND_GAP
    }

    /// How many milliseconds of a link's queue the stream fills by itself, at most, when every packet is sent at once:
    /// encoders hold to a bit rate over a second or more, and not from picture to picture.
    pub(crate) fn queue_ms(&self, link_kbps: u64) -> f64 {
        let bytes_per_ms = crate::stats::to_f64(link_kbps) / 8.0;
        let (mut waiting, mut most, mut last) = (0.0_f64, 0.0_f64, Duration::ZERO);
        for round in 0..2 {
            for tag in &*self.tags {
                let now = self.round() * round + self.due(tag);
                let len = tag.body.len();
                let bytes = len + len.div_ceil(PAYLOAD) * AROUND_PAYLOAD;
                let passed_ms = now.saturating_sub(last).as_secs_f64() * 1e3;
                waiting = (waiting - passed_ms * bytes_per_ms).max(0.0) + crate::stats::to_f64(bytes as u64);
                most = most.max(waiting);
                last = now;
            }
        }
        most / bytes_per_ms
    }

    fn due(&self, tag: &Tag) -> Duration {
        let start = self.tags.first().map_or(0, |tag| tag.timestamp_ms);
        Duration::from_millis(tag.timestamp_ms.saturating_sub(start).into())
    }

    /// The file from its beginning, again and again.
    pub(super) fn rounds(&self) -> Rounds {
        Rounds { recording: self.clone(), next: 0, offset: Duration::ZERO }
    }
}

/// A recording that begins again at its end, its times going on.
#[derive(Debug)]
pub(super) struct Rounds {
    recording: Recording,
    next: usize,
    offset: Duration,
}

impl Rounds {
    pub(super) fn next(&mut self) -> Message {
        let tags = &self.recording.tags;
        if self.next == tags.len() {
            self.offset += self.recording.round();
            self.next = 0;
        }
        let tag = tags.get(self.next).expect("the end was just looked for, and a recording is never empty");
        self.next += 1;
        let kind = if tag.kind == AUDIO { Kind::Audio } else { Kind::Video };
        Message::new(kind, self.offset + self.recording.due(tag), tag.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn times_go_on_when_the_file_begins_again() {
        let tag = |kind, timestamp_ms| Tag { kind, timestamp_ms, body: Bytes::new() };
        let tags = [tag(VIDEO, 500), tag(AUDIO, 510), tag(VIDEO, 540)].into();
        let mut rounds = Recording { tags }.rounds();
        let times: Vec<u32> = (0..7).map(|_| rounds.next().timestamp_ms()).collect();
        assert_eq!(times, [0, 10, 40, 80, 90, 120, 160]);
    }

    #[test]
    fn keyframes_are_found_and_parameters_are_none() {
        let tag = |kind, timestamp_ms, body: &'static [u8]| Tag { kind, timestamp_ms, body: body.into() };
        let tags = [
            tag(VIDEO, 500, &[0x17, 0]),
            tag(VIDEO, 500, &[0x17, 1, 0]),
            tag(AUDIO, 510, &[0x17, 1]),
            tag(VIDEO, 540, &[0x27, 1, 0]),
            tag(VIDEO, 580, &[0x17, 1, 0]),
        ];
        let recording = Recording { tags: tags.into() };
        assert_eq!(recording.keyframes(), [0, 80].map(Duration::from_millis));
        assert_eq!(recording.round(), Duration::from_millis(120));
    }

    #[test]
    fn the_queue_is_what_comes_faster_than_the_link() {
        let tag = |timestamp_ms, len| Tag { kind: VIDEO, timestamp_ms, body: vec![0; len].into() };
        // 800 kbit/s are 100 bytes a millisecond: two packets at once, and a third that waits for one of them.
        let (one, two) = (PAYLOAD + AROUND_PAYLOAD, 2 * (PAYLOAD + AROUND_PAYLOAD));
        let recording = Recording { tags: [tag(0, 2 * PAYLOAD), tag(10, PAYLOAD)].into() };
        let expected = |bytes: usize| crate::stats::to_f64(bytes as u64) / 100.0;
        assert!((recording.queue_ms(800) - (expected(two + one) - 10.0)).abs() < 1e-6);
        assert!((recording.queue_ms(80_000_000) - expected(two) / 1e5).abs() < 1e-6);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Recording::read(Path::new("Cargo.toml")).is_err());
        assert!(Recording::read(Path::new("no such file")).is_err());
    }
}
