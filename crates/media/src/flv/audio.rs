//! Audio tags.
use bytes::Bytes;

use super::TagError;

/// What an audio message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioTag {
    /// An `AudioSpecificConfig`.
    AacConfig(Bytes),
    /// One raw AAC frame.
    Aac(Bytes),
    /// One Opus packet (enhanced RTMP).
    Opus(Bytes),
    /// Nothing to hear: a header of Opus, an end of sequence, an empty message.
    Nothing,
}

const INSTEAD: &str = "AAC";

impl AudioTag {
    /// Reads the body of an audio message. The rate and size bits of its first byte are not looked at: encoders write
    /// anything there.
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
            codec => Err(TagError::Unsupported { codec: legacy_name(codec), instead: INSTEAD }),
        }
    }
}

fn parse_enhanced(body: &Bytes, kind: u8) -> Result<AudioTag, TagError> {
    let Some(&[_, f0, f1, f2, f3]) = body.first_chunk::<5>() else {
        return Err(TagError::Truncated(body.len()));
    };
    let name = [f0, f1, f2, f3];
    match (&name, kind) {
        (b"Opus", 0 | 2 | 4) | (b"mp4a", 2 | 4) => Ok(AudioTag::Nothing),
        (b"Opus", 1) if body.len() == 5 => Ok(AudioTag::Nothing),
        (b"Opus", 1) => Ok(AudioTag::Opus(body.slice(5..))),
        (b"mp4a", 0) => Ok(AudioTag::AacConfig(body.slice(5..))),
        (b"mp4a", 1) => Ok(AudioTag::Aac(body.slice(5..))),
        (b"Opus" | b"mp4a", kind) => Err(TagError::PacketType(kind)),
        (other, _) => Err(TagError::Unsupported {
            codec: format!("sound codec {}", other.escape_ascii()),
            instead: INSTEAD,
        }),
    }
}

fn legacy_name(codec: u8) -> String {
    match codec {
        0 | 3 => "uncompressed sound".to_owned(),
        1 => "ADPCM".to_owned(),
        2 | 14 => "MP3".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        7 | 8 => "G.711".to_owned(),
        11 => "Speex".to_owned(),
        other => format!("sound codec {other}"),
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
        assert_eq!(AudioTag::parse(Bytes::from_static(b"\x90OpusOpusHead")), Ok(AudioTag::Nothing));
        let error = AudioTag::parse(Bytes::from_static(&[0x2f, 0])).unwrap_err().to_string();
        assert!(error.contains("MP3") && error.contains("AAC"), "{error}");
    }
}
