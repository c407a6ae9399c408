//! Video tags.
use bytes::Bytes;

use super::TagError;

/// What a video message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoTag {
    /// An `AVCDecoderConfigurationRecord`.
    Config(Bytes),
    /// One access unit, each NAL unit with its length in front.
    Frame {
        /// Display time less decoding time, in milliseconds.
        composition_ms: i32,
        /// The access unit.
        data: Bytes,
    },
    /// Nothing to show: an end of sequence, a seek command, an empty message.
    Nothing,
}

const INSTEAD: &str = "H.264 (AVC)";

impl VideoTag {
    /// Reads the body of a video message.
    pub fn parse(body: Bytes) -> Result<Self, TagError> {
        let Some(&first) = body.first() else { return Ok(Self::Nothing) };
        if first & 0x80 != 0 {
            return parse_enhanced(&body, first);
        }
        // Frame type 5 is a command of the server to a player.
        if first >> 4 == 5 {
            return Ok(Self::Nothing);
        }
        if first & 0x0f != 7 {
            return Err(TagError::Unsupported { codec: legacy_name(first & 0x0f), instead: INSTEAD });
        }
        let Some(&[_, kind, c0, c1, c2]) = body.first_chunk::<5>() else {
            return Err(TagError::Truncated(body.len()));
        };
        match kind {
            0 => Ok(Self::Config(body.slice(5..))),
            1 => Ok(Self::Frame { composition_ms: signed24([c0, c1, c2]), data: body.slice(5..) }),
            2 => Ok(Self::Nothing),
            kind => Err(TagError::PacketType(kind)),
        }
    }
}

/// Enhanced RTMP: the packet type takes the codec's place and four characters name the codec.
fn parse_enhanced(body: &Bytes, first: u8) -> Result<VideoTag, TagError> {
    let Some(&[_, f0, f1, f2, f3]) = body.first_chunk::<5>() else {
        return Err(TagError::Truncated(body.len()));
    };
    let name = [f0, f1, f2, f3];
    if &name != b"avc1" {
        return Err(TagError::Unsupported { codec: four_cc_name(name), instead: INSTEAD });
    }
    match first & 0x0f {
        0 => Ok(VideoTag::Config(body.slice(5..))),
        1 => {
            let Some(&[.., c0, c1, c2]) = body.first_chunk::<8>() else {
                return Err(TagError::Truncated(body.len()));
            };
            Ok(VideoTag::Frame { composition_ms: signed24([c0, c1, c2]), data: body.slice(8..) })
        }
        3 => Ok(VideoTag::Frame { composition_ms: 0, data: body.slice(5..) }),
        2 | 4 => Ok(VideoTag::Nothing),
        kind => Err(TagError::PacketType(kind)),
    }
}

fn signed24([b0, b1, b2]: [u8; 3]) -> i32 {
    i32::from_be_bytes([b0, b1, b2, 0]) >> 8
}

fn legacy_name(codec: u8) -> String {
    match codec {
        2 => "Sorenson H.263".to_owned(),
        4 | 5 => "VP6".to_owned(),
        12 => "H.265 (HEVC)".to_owned(),
        other => format!("video codec {other}"),
    }
}

fn four_cc_name(name: [u8; 4]) -> String {
    match &name {
        b"hvc1" | b"hev1" => "H.265 (HEVC)".to_owned(),
        b"av01" => "AV1".to_owned(),
        b"vp09" => "VP9".to_owned(),
        b"vp08" => "VP8".to_owned(),
        other => format!("video codec {}", other.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composition_times_are_signed() {
        let tag = VideoTag::parse(Bytes::from_static(&[0x27, 1, 0xff, 0xff, 0xfe, 9])).unwrap();
        assert_eq!(tag, VideoTag::Frame { composition_ms: -2, data: Bytes::from_static(&[9]) });
    }

    #[test]
    fn enhanced_avc_is_taken_and_others_are_refused_by_name() {
        let tag = VideoTag::parse(Bytes::from_static(b"\x91avc1\x00\x00\x05data")).unwrap();
        assert_eq!(tag, VideoTag::Frame { composition_ms: 5, data: Bytes::from_static(b"data") });
        let tag = VideoTag::parse(Bytes::from_static(b"\x93avc1data")).unwrap();
        assert_eq!(tag, VideoTag::Frame { composition_ms: 0, data: Bytes::from_static(b"data") });
        let error = VideoTag::parse(Bytes::from_static(b"\x90hvc1xx")).unwrap_err().to_string();
        assert!(error.contains("H.265") && error.contains("H.264"), "{error}");
    }

    #[test]
    fn short_tags_are_errors_and_empty_ones_are_nothing() {
        assert_eq!(VideoTag::parse(Bytes::new()), Ok(VideoTag::Nothing));
        assert_eq!(VideoTag::parse(Bytes::from_static(&[0x17, 1])), Err(TagError::Truncated(2)));
        assert_eq!(VideoTag::parse(Bytes::from_static(b"\x90av")), Err(TagError::Truncated(3)));
    }
}
