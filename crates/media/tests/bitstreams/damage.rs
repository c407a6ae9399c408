//! Whatever becomes of real bytes, no parser panics, loops or gives more than it was given.
use bytes::Bytes;
use media::VideoConfig;
use media::aac::{self, AudioSpecificConfig, HighEfficiency};
use media::flv::file::Tags;
use media::flv::{AudioTag, VideoTag};
use media::h264::avcc::NALS_MAX;
use media::h264::{AvcConfig, SliceHeader, SliceType, Sps, avcc, sei};
use media::opus;

use super::lesson::{self, Lesson, video_bodies};

/// Mutations of each message: with all fixtures, a quarter of a million inputs.
const ROUNDS: usize = 1000;
/// Bytes of a message that are damaged: the headers are in front.
const FRONT: usize = 64;

/// A linear congruential generator: the same damage in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }

    /// Flips, overwrites, cuts, and repeats bytes; extremes are likelier than chance would have them.
    fn damage(&mut self, bytes: &[u8]) -> Bytes {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().min(FRONT));
            let chance = u8::try_from(self.below(256)).unwrap();
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << (chance & 7),
                1 if at < bytes.len() => bytes[at] = [0, 1, 3, 0x7f, 0x80, 0xff][usize::from(chance) % 6],
                2 if at < bytes.len() => bytes[at] = chance,
                3 => bytes.truncate(at.max(1)),
                4 => bytes.insert(at.min(bytes.len()), chance),
                _ => bytes.extend_from_within(..at.min(bytes.len())),
            }
        }
        Bytes::from(bytes)
    }
}

/// Feeds bytes to every parser, whatever they were, and what comes out of one to the next.
fn parse_all(bytes: &Bytes, sps: &Sps) {
    if let Ok(VideoTag::Config(record) | VideoTag::Frame { data: record, .. }) =
        VideoTag::parse(bytes.clone())
    {
        assert!(record.len() < bytes.len());
        parse_h264(&record, sps);
    }
    if let Ok(
        AudioTag::AacConfig(data) | AudioTag::Aac(data) | AudioTag::Opus(data) | AudioTag::Coded(_, data),
    ) = AudioTag::parse(bytes.clone())
    {
        assert!(!data.is_empty() && data.len() < bytes.len());
        parse_audio(&data);
    }
    parse_h264(bytes, sps);
    parse_audio(bytes);
    for tag in Tags::parse(bytes.clone()).into_iter().flatten() {
        assert!(tag.body.len() < bytes.len());
    }
}

fn parse_h264(bytes: &Bytes, sps: &Sps) {
    let _ = sei::recovery_frames(bytes);
    let _ = sei::recovery_frames(bytes);
    if let Ok(config) = AvcConfig::parse(bytes) {
        assert!(matches!(config.length_size, 1 | 2 | 4));
        for set in &config.sps {
            let _ = VideoConfig::parse(set, &config.pps);
        }
    }
    for length_size in 1..=4 {
        if let Ok(nals) = avcc::split_access_unit(bytes, length_size) {
            assert!(nals.len() <= NALS_MAX && nals.iter().all(|nal| !nal.is_empty()));
            assert!(nals.iter().map(Bytes::len).sum::<usize>() <= bytes.len());
        }
    }
    let sps = Sps::parse(bytes).unwrap_or_else(|_| sps.clone());
    let header = SliceHeader::parse(bytes, &sps);
    assert!(header.is_none_or(|header| SliceType::parse(bytes) == Some(header.slice_type)));
}

fn parse_audio(bytes: &[u8]) {
    if let Ok(config) = AudioSpecificConfig::parse(bytes) {
        assert!((7_350..=96_000).contains(&config.rate_hz) && (1..=8).contains(&config.channels));
        assert!(AudioSpecificConfig::parse(&config.to_bytes()).is_ok());
    }
    let _ = HighEfficiency::parse(bytes);
    if let Some((config, frame)) = aac::strip_adts(bytes) {
        assert!((1..=8).contains(&config.channels) && frame.len() < bytes.len());
    }
    assert!(opus::duration(bytes).is_none_or(|duration| duration.as_millis() <= 120));
    let _ = opus::Head::parse(bytes);
}

/// What the parsers of sound and of single NAL units read, which the fixtures have not or have deep inside.
fn seeds(lesson: &Lesson) -> Vec<Bytes> {
    let mut seeds = vec![lesson.config.sps.clone(), lesson.config.pps[0].clone()];
    seeds.extend(lesson.pictures.iter().take(20).flat_map(|picture| picture.nals.clone()));
    seeds.extend(
        [
            &[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80][..],
            &[0x17, 0x80, 0x56, 0x0c, 0x10],
            &[0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 0xde, 0x02],
            &[0xaf, 0x00, 0x12, 0x10],
            b"\x91Opus\xe3\x06\x00",
            b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00",
            b"\x91avc1\x00\x00\x05\x00\x00\x00\x02\x65\x88",
        ]
        .map(Bytes::from_static),
    );
    seeds
}

#[test]
fn no_truncation_of_a_message_is_more_than_an_error() {
    for file in lesson::ALL {
        let lesson = Lesson::open(file);
        for seed in video_bodies(file).map(|(_, body)| body).chain(seeds(&lesson)) {
            for len in 0..=seed.len().min(2 * FRONT) {
                parse_all(&seed.slice(..len), &lesson.sps);
            }
        }
    }
}

#[test]
fn no_damage_to_a_message_is_more_than_an_error() {
    let mut dice = Dice(1);
    for file in lesson::ALL {
        let lesson = Lesson::open(file);
        for seed in video_bodies(file).map(|(_, body)| body).chain(seeds(&lesson)) {
            let seed = seed.slice(..seed.len().min(2 * FRONT));
            for _ in 0..ROUNDS {
                parse_all(&dice.damage(&seed), &lesson.sps);
            }
        }
    }
}

#[test]
fn no_damage_to_a_file_gives_more_than_the_file() {
    let mut dice = Dice(2);
    for file in lesson::ALL {
        for len in (0..file.len()).step_by(7) {
            let bodies = Tags::parse(Bytes::copy_from_slice(&file[..len])).into_iter().flatten();
            assert!(bodies.map(|tag| tag.body.len()).sum::<usize>() <= len);
        }
        for _ in 0..ROUNDS {
            let damaged = dice.damage(file);
            let bodies = Tags::parse(damaged.clone()).into_iter().flatten();
            assert!(bodies.map(|tag| tag.body.len()).sum::<usize>() <= damaged.len());
        }
    }
}
