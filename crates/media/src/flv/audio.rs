//! Audio tags.
use std::time::Duration;

use bytes::Bytes;

use super::TagError;
use crate::opus;

/// The only rate of G.711.
pub const G711_HZ: u32 = 8_000;

/// What an audio message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioTag {
    /// An `AudioSpecificConfig`.
    AacConfig(Bytes),
    /// One raw AAC frame.
    Aac(Bytes),
    /// The header of Opus (enhanced RTMP): how many channels the packets after it have.
    OpusConfig {
        /// Two if it does not say.
        channels: u8,
    },
    /// One Opus packet (enhanced RTMP).
    Opus(Bytes),
    /// Sound in a codec of old, which says by itself all that a decoder must know.
    Coded(Codec, Bytes),
    /// Nothing to hear: an end of sequence, an empty message.
    Nothing,
}

/// A codec whose messages need no configuration before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// MPEG-1 and MPEG-2 layer 3; a message is a frame, with its header.
    Mp3,
    /// G.711 A-law, at 8 kHz.
    ALaw {
        /// 1 or 2.
        channels: u8,
    },
    /// G.711 mu-law, at 8 kHz.
    MuLaw {
        /// 1 or 2.
        channels: u8,
    },
    /// Samples of eight bits, without a sign.
    Pcm8 {
        /// Samples a second.
        rate_hz: u32,
        /// 1 or 2.
        channels: u8,
    },
    /// Samples of sixteen bits, the low byte first.
    Pcm16 {
        /// Samples a second.
        rate_hz: u32,
        /// 1 or 2.
        channels: u8,
    },
}

impl Codec {
    /// By the first byte of a message (FLV, section E.4.2.1).
    fn of(first: u8) -> Option<Self> {
        let channels = if first & 1 == 1 { 2 } else { 1 };
        let rate_hz = [5_512, 11_025, 22_050, 44_100].get(usize::from(first >> 2 & 3)).copied()?;
        match (first >> 4, first >> 1 & 1) {
            (2 | 14, _) => Some(Self::Mp3),
            (7, _) => Some(Self::ALaw { channels }),
            (8, _) => Some(Self::MuLaw { channels }),
            (0 | 3, 0) => Some(Self::Pcm8 { rate_hz, channels }),
            // What the format calls the order of the platform is the low byte first on every platform there is.
            (0 | 3, _) => Some(Self::Pcm16 { rate_hz, channels }),
            _ => None,
        }
    }

    /// Bytes that so much sound has, where that is always the same.
    pub fn bytes_in(self, duration: Duration) -> Option<usize> {
        let (rate_hz, channels, bytes) = match self {
            Self::Mp3 => return None,
            Self::ALaw { channels } | Self::MuLaw { channels } => (G711_HZ, channels, 1),
            Self::Pcm8 { rate_hz, channels } => (rate_hz, channels, 1),
            Self::Pcm16 { rate_hz, channels } => (rate_hz, channels, 2),
        };
        let a_second = u128::from(rate_hz).saturating_mul(channels.into()).saturating_mul(bytes);
        usize::try_from(a_second.saturating_mul(duration.as_millis()) / 1_000).ok()
    }
}

const INSTEAD: &str = "AAC";

impl AudioTag {
    /// Reads the body of an audio message. Of AAC and Opus the rate and size bits of its first byte are not looked at: encoders
    /// write anything there.
    pub fn parse(body: Bytes) -> Result<Self, TagError> {
        let Some(&first) = body.first() else { return Ok(Self::Nothing) };
        match first >> 4 {
            10 => match body.get(1) {
                None => Err(TagError::Truncated(body.len())),
                Some(_) if body.len() == 2 => Ok(Self::Nothing),
                Some(0) => Ok(Self::AacConfig(body.slice(2..))),
                Some(1) => Ok(Self::Aac(body.slice(2..))),
                Some(kind) => Err(TagError::PacketType(*kind)),
            },
            9 => parse_enhanced(&body, first & 0x0f),
            format => match Codec::of(first) {
                Some(_) if body.len() == 1 => Ok(Self::Nothing),
                Some(codec) => Ok(Self::Coded(codec, body.slice(1..))),
                None => Err(TagError::Unsupported { codec: legacy_name(format), instead: INSTEAD }),
            },
        }
    }
}

/// Enhanced RTMP: the packet type takes the place of rate and size, and four characters name the codec.
fn parse_enhanced(body: &Bytes, kind: u8) -> Result<AudioTag, TagError> {
    // With several tracks, another byte stands before the name, or there is a name for each.
    if kind == 5 {
        return Err(TagError::Unsupported { codec: "several tracks of sound".to_owned(), instead: "one" });
    }
    let Some(&[_, f0, f1, f2, f3]) = body.first_chunk::<5>() else {
        return Err(TagError::Truncated(body.len()));
    };
    let data = body.slice(5..);
    match (&[f0, f1, f2, f3], kind) {
        (_, 6..) => Err(TagError::PacketType(kind)),
        (b"Opus", 0) => {
            Ok(AudioTag::OpusConfig { channels: opus::Head::parse(&data).map_or(2, |head| head.channels) })
        }
        (b"Opus", 1) if !data.is_empty() => Ok(AudioTag::Opus(data)),
        (b"mp4a", 0) if !data.is_empty() => Ok(AudioTag::AacConfig(data)),
        (b"mp4a", 1) if !data.is_empty() => Ok(AudioTag::Aac(data)),
        (b".mp3", 1) if !data.is_empty() => Ok(AudioTag::Coded(Codec::Mp3, data)),
        (b".mp3", _) => Ok(AudioTag::Nothing),
        (b"Opus" | b"mp4a", 0..=2 | 4) => Ok(AudioTag::Nothing),
        (b"Opus" | b"mp4a", kind) => Err(TagError::PacketType(kind)),
        (other, _) => Err(TagError::Unsupported { codec: four_cc_name(*other), instead: INSTEAD }),
    }
}

fn legacy_name(codec: u8) -> String {
    match codec {
        1 => "ADPCM".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        11 => "Speex".to_owned(),
        other => format!("sound codec {other}"),
    }
}

fn four_cc_name(name: [u8; 4]) -> String {
    match &name {
        b"ac-3" | b"ec-3" => "Dolby Digital".to_owned(),
        b"fLaC" => "FLAC".to_owned(),
        other => format!("sound codec {}", other.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aac_opus_and_others_are_told_apart() {
        assert_eq!(
            AudioTag::parse(Bytes::from_static(&[0xaf, 0, 0x12, 0x10])),
            Ok(AudioTag::AacConfig(Bytes::from_static(&[0x12, 0x10])))
        );
        assert_eq!(
            AudioTag::parse(Bytes::from_static(&[0xaf, 1, 7])),
            Ok(AudioTag::Aac(Bytes::from_static(&[7])))
        );
        assert_eq!(
            AudioTag::parse(Bytes::from_static(b"\x91Opus\xf8")),
            Ok(AudioTag::Opus(Bytes::from_static(b"\xf8")))
        );
        assert_eq!(
            AudioTag::parse(Bytes::from_static(b"\x90OpusOpusHead")),
            Ok(AudioTag::OpusConfig { channels: 2 })
        );
        assert_eq!(
            AudioTag::parse(Bytes::from_static(b"\x91mp4a\x21")),
            Ok(AudioTag::Aac(Bytes::from_static(b"\x21")))
        );
    }

    #[test]
    fn codecs_of_old_are_told_by_the_first_byte() {
        for (first, codec) in [
            (0x2f, Codec::Mp3),
            (0xe2, Codec::Mp3),
            (0x72, Codec::ALaw { channels: 1 }),
            (0x83, Codec::MuLaw { channels: 2 }),
            (0x38, Codec::Pcm8 { rate_hz: 22_050, channels: 1 }),
            (0x3f, Codec::Pcm16 { rate_hz: 44_100, channels: 2 }),
            (0x02, Codec::Pcm16 { rate_hz: 5_512, channels: 1 }),
        ] {
            let tag = AudioTag::parse(Bytes::copy_from_slice(&[first, 7]));
            assert_eq!(tag, Ok(AudioTag::Coded(codec, Bytes::from_static(&[7]))), "{first:x}");
            assert_eq!(AudioTag::parse(Bytes::copy_from_slice(&[first])), Ok(AudioTag::Nothing));
        }
        let mp3 = AudioTag::parse(Bytes::from_static(b"\x91.mp3\xff"));
        assert_eq!(mp3, Ok(AudioTag::Coded(Codec::Mp3, Bytes::from_static(b"\xff"))));
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        for (body, name) in [
            (&[0xb6, 0][..], "Speex"),
            (&[0x62, 0], "Nellymoser"),
            (&[0x1f, 0], "ADPCM"),
            (b"\x90fLaCxx", "FLAC"),
            (b"\x91ac-3xx", "Dolby"),
        ] {
            let error = AudioTag::parse(Bytes::copy_from_slice(body)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("choose AAC"), "{error}");
        }
        let error = AudioTag::parse(Bytes::from_static(b"\x95\x01Opus")).unwrap_err().to_string();
        assert!(error.contains("several tracks"), "{error}");
    }

    #[test]
    fn the_header_of_opus_says_its_channels() {
        let head = |channels| {
            Bytes::from(
                [&b"\x90OpusOpusHead\x01"[..], &[channels, 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat(),
            )
        };
        assert_eq!(AudioTag::parse(head(2)), Ok(AudioTag::OpusConfig { channels: 2 }));
        assert_eq!(AudioTag::parse(head(6)), Ok(AudioTag::OpusConfig { channels: 6 }));
    }

    #[test]
    fn empty_tags_are_nothing_and_short_ones_errors() {
        for body in [&b""[..], &[0xaf, 0], &[0xaf, 1], b"\x91Opus", b"\x90mp4a", b"\x92Opus", b"\x94Opus\0\0"]
        {
            assert_eq!(AudioTag::parse(Bytes::copy_from_slice(body)), Ok(AudioTag::Nothing));
        }
        assert_eq!(AudioTag::parse(Bytes::from_static(&[0xaf])), Err(TagError::Truncated(1)));
        assert_eq!(AudioTag::parse(Bytes::from_static(b"\x91Opu")), Err(TagError::Truncated(4)));
        assert_eq!(AudioTag::parse(Bytes::from_static(&[0xaf, 2, 0])), Err(TagError::PacketType(2)));
    }
}
