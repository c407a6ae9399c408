//! Opus packets: what their first bytes say (RFC 6716, section 3), and the header of a stream of them (RFC 7845).
use std::time::Duration;

/// The longest packet: RFC 6716, section 3.4, R5.
const PACKET_MAX: Duration = Duration::from_millis(120);

/// Bytes of a packet that fits a datagram to viewers: 464 kbit/s in packets of 20 ms.
pub const PACKET_BYTES_MAX: usize = 1_160;

/// How long a packet plays; `None` when it is not a packet.
pub fn duration(packet: &[u8]) -> Option<Duration> {
    let config = packet.first()? >> 3;
    // Table 2: SILK 10, 20, 40, 60 ms; hybrid 10, 20 ms; CELT 2.5, 5, 10, 20 ms.
    let frame_us: u64 = match config {
        0..=11 => [10_000, 20_000, 40_000, 60_000].get(usize::from(config % 4)).copied()?,
        12..=15 => [10_000, 20_000].get(usize::from(config % 2)).copied()?,
        _ => [2_500, 5_000, 10_000, 20_000].get(usize::from(config % 4)).copied()?,
    };
    let frame = Duration::from_micros(frame_us);
    frame.checked_mul(u32::from(frames(packet)?)).filter(|duration| *duration <= PACKET_MAX)
}

/// How many frames a packet holds: RFC 6716, section 3.2. `None` when it is not a packet.
pub fn frames(packet: &[u8]) -> Option<u8> {
    match packet.first()? & 3 {
        0 => Some(1),
        1 | 2 => Some(2),
        _ => Some(packet.get(1)? & 0x3f).filter(|count| *count > 0),
    }
}

/// The identification header of a stream: RFC 7845, section 5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Channels of the stream; a packet alone has one or two.
    pub channels: u8,
    /// Samples of 48 kHz that a player leaves out at the beginning.
    pub pre_skip: u16,
    /// The rate before it was encoded, for information.
    pub input_rate_hz: u32,
}

impl Head {
    /// Reads a header of version 0 or 1 and what is compatible with it; `None` when it is none.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let rest = header.strip_prefix(b"OpusHead")?;
        // Version, channels, pre-skip (2), rate (4), gain (2), mapping family.
        let &[version, channels, p0, p1, r0, r1, r2, r3, _, _, _] = rest.first_chunk::<11>()?;
        (version < 16 && channels > 0).then_some(Self {
            channels,
            pre_skip: u16::from_le_bytes([p0, p1]),
            input_rate_hz: u32::from_le_bytes([r0, r1, r2, r3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_table() {
        for (packet, expected) in [
            (&[0xf8, 0xff, 0xfe][..], Some(20)),
            (&[0xfc, 0], Some(20)),
            (&[0xf9, 0], Some(40)),
            (&[0x08, 0], Some(20)),
            (&[0x18, 0], Some(60)),
            (&[0x78, 0], Some(20)),
            (&[0xe3, 0x06], Some(15)),
            (&[0x1b, 0x02], Some(120)),
            // Three frames of 60 ms are more than a packet may hold; no frames are no packet.
            (&[0x1b, 0x03], None),
            (&[0xe3, 0x40], None),
            (&[0xe3], None),
            (&[], None),
        ] {
            assert_eq!(duration(packet), expected.map(Duration::from_millis), "{packet:x?}");
        }
    }

    #[test]
    fn frames_are_in_the_first_bytes() {
        assert_eq!([&[0xf8][..], &[0xf9], &[0xfa], &[0xfb, 0x83]].map(frames), [1, 2, 2, 3].map(Some));
    }

    #[test]
    fn a_header_says_channels_and_pre_skip() {
        let header = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
        assert_eq!(Head::parse(header), Some(Head { channels: 2, pre_skip: 312, input_rate_hz: 48_000 }));
        for len in 0..header.len() {
            assert_eq!(Head::parse(&header[..len]), None, "{len} bytes");
        }
        assert_eq!(Head::parse(b"OpusHead\x10\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"), None);
        assert_eq!(Head::parse(b"OpusHead\x01\x00\x38\x01\x80\xbb\x00\x00\x00\x00\x00"), None);
    }
}
