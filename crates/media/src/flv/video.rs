//! Video tags.
use bytes::Bytes;

use super::TagError;

/// The frame type of a command from a server to a player.
const COMMAND: u8 = 5;
/// The only codec of the old format that browsers play.
const AVC: u8 = 7;
const INSTEAD: &str = "H.264 (AVC)";

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
    /// Nothing to show: an end of sequence, a seek command, metadata, an empty message.
    Nothing,
}

impl VideoTag {
    /// Reads the body of a video message.
    pub fn parse(body: Bytes) -> Result<Self, TagError> {
        let Some(&first) = body.first() else { return Ok(Self::Nothing) };
        // Bits: is enhanced, frame type (3), codec or packet type (4).
        let (is_enhanced, frame_type, kind) = (first & 0x80 != 0, first >> 4 & 7, first & 0x0f);
        if frame_type == COMMAND {
            return Ok(Self::Nothing);
        }
        if is_enhanced {
            return parse_enhanced(&body, kind);
        }
        if kind != AVC {
            return Err(TagError::Unsupported { codec: legacy_name(kind), instead: INSTEAD });
        }
        match body.get(1) {
            None => Err(TagError::Truncated(body.len())),
            Some(0) if body.len() >= 5 => Ok(Self::Config(body.slice(5..))),
            Some(1) => parse_frame(&body, 2),
            Some(0) => Err(TagError::Truncated(body.len())),
            Some(2) => Ok(Self::Nothing),
            Some(kind) => Err(TagError::PacketType(*kind)),
        }
    }
}

/// Enhanced RTMP: the packet type takes the codec's place and four characters name the codec.
fn parse_enhanced(body: &Bytes, kind: u8) -> Result<VideoTag, TagError> {
    // With several tracks, another byte stands before the name, or there is a name for each.
    if kind == 6 {
        return Err(TagError::Unsupported { codec: "several pictures at once".to_owned(), instead: "one" });
    }
    let Some(&[_, f0, f1, f2, f3]) = body.first_chunk::<5>() else {
        return Err(TagError::Truncated(body.len()));
    };
    let name = [f0, f1, f2, f3];
    if kind <= 5 && &name != b"avc1" {
        return Err(TagError::Unsupported { codec: four_cc_name(name), instead: INSTEAD });
    }
    match kind {
        0 => Ok(VideoTag::Config(body.slice(5..))),
        1 => parse_frame(body, 5),
        3 => Ok(VideoTag::Frame { composition_ms: 0, data: body.slice(5..) }),
        2 | 4 => Ok(VideoTag::Nothing),
        kind => Err(TagError::PacketType(kind)),
    }
}

/// A composition time of 24 bits with its sign, and behind it the access unit.
fn parse_frame(body: &Bytes, at: usize) -> Result<VideoTag, TagError> {
    let time = body.get(at..).and_then(|rest| rest.split_first_chunk::<3>());
    let (&[t0, t1, t2], data) = time.ok_or(TagError::Truncated(body.len()))?;
    let composition_ms = i32::from_be_bytes([t0, t1, t2, 0]) >> 8;
    Ok(VideoTag::Frame { composition_ms, data: body.slice_ref(data) })
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
        b"vvc1" => "H.266 (VVC)".to_owned(),
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
        assert_eq!(
            VideoTag::parse(Bytes::from_static(b"\x90avc1record")),
            Ok(VideoTag::Config(Bytes::from_static(b"record")))
        );
        for (body, name) in [
            (&b"\x90hvc1xx"[..], "H.265"),
            (b"\x91hev1\x00\x00\x00xx", "H.265"),
            (b"\x90av01xx", "AV1"),
            (b"\x90vp09xx", "VP9"),
            (b"\x1cxxxx", "H.265"),
            (b"\x12xxxx", "H.263"),
        ] {
            let error = VideoTag::parse(Bytes::copy_from_slice(body)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("choose H.264"), "{error}");
        }
        let error = VideoTag::parse(Bytes::from_static(b"\x96\x01avc1")).unwrap_err().to_string();
        assert!(error.contains("several pictures"), "{error}");
    }

    #[test]
    fn ends_metadata_and_commands_are_nothing() {
        for body in [&b"\x17\x02"[..], b"\x17\x02\0\0\0", b"\x92avc1", b"\x94avc1data", b"\x57\0", b"\xd0\0"]
        {
            let tag = VideoTag::parse(Bytes::copy_from_slice(body));
            assert_eq!(tag, Ok(VideoTag::Nothing), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn packet_types_that_mean_nothing_are_errors() {
        assert_eq!(VideoTag::parse(Bytes::from_static(&[0x17, 3, 0, 0, 0])), Err(TagError::PacketType(3)));
        assert_eq!(VideoTag::parse(Bytes::from_static(b"\x97\0\0\0\0avc1")), Err(TagError::PacketType(7)));
    }

    #[test]
    fn short_tags_are_errors_and_empty_ones_are_nothing() {
        assert_eq!(VideoTag::parse(Bytes::new()), Ok(VideoTag::Nothing));
        for len in 1..5 {
            for kind in [0, 1] {
                let body = Bytes::copy_from_slice(&[0x17, kind, 0, 0][..len]);
                let expected = TagError::Truncated(body.len());
                assert_eq!(VideoTag::parse(body), Err(expected));
            }
        }
        assert_eq!(VideoTag::parse(Bytes::from_static(b"\x90av")), Err(TagError::Truncated(3)));
    }
}
