//! Opus packets: what their first byte says (RFC 6716, section 3.1).
use std::time::Duration;

/// How long a packet plays; `None` when it is not a packet.
pub fn duration(packet: &[u8]) -> Option<Duration> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    // Table 2: SILK 10, 20, 40, 60 ms; hybrid 10, 20 ms; CELT 2.5, 5, 10, 20 ms.
    let frame_us: u64 = match config {
        0..=11 => [10_000, 20_000, 40_000, 60_000].get(usize::from(config % 4)).copied()?,
        12..=15 => [10_000, 20_000].get(usize::from(config % 2)).copied()?,
        _ => [2_500, 5_000, 10_000, 20_000].get(usize::from(config % 4)).copied()?,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    Some(Duration::from_micros(frame_us * frames))
}

/// Whether the packet has two channels.
pub fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 4 != 0)
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
            (&[0xe3], None),
            (&[], None),
        ] {
            assert_eq!(duration(packet), expected.map(Duration::from_millis), "{packet:x?}");
        }
        assert!(is_stereo(&[0xfc]) && !is_stereo(&[0xf8]));
    }
}
