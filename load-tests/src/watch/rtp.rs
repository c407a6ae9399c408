//! The RTP header (RFC 3550, section 5.1), which SRTP leaves in the clear.

const HEADER_LEN: usize = 12;

/// A header as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) has_padding: bool,
    /// Bytes up to the payload: contributing sources and extension included.
    pub(super) len: usize,
}

impl Header {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; HEADER_LEN] = packet.first_chunk()?;
        let [flags, kind, s0, s1, t0, t1, t2, t3, x0, x1, x2, x3] = *fixed;
        if flags >> 6 != 2 {
            return None;
        }
        let mut len = HEADER_LEN + 4 * usize::from(flags & 0x0f);
        if flags & 0x10 != 0 {
            let words: [u8; 2] = packet.get(len + 2..len + 4)?.try_into().ok()?;
            len += 4 + 4 * usize::from(u16::from_be_bytes(words));
        }
        (len <= packet.len()).then_some(Self {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([x0, x1, x2, x3]),
            has_padding: flags & 0x20 != 0,
            len,
        })
    }

    /// The payload without its padding; the last byte says how much there is.
    pub(super) fn unpad<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        if !self.has_padding {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// RFC 5761, section 4: RTCP where the payload type would be 64 to 95.
pub(super) fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_and_contributing_sources_belong_to_the_header() {
        let mut packet = vec![0xb1, 0xe0 | 0x0c, 1, 2, 0, 0, 0, 9, 0, 0, 0, 7];
        packet.extend([0, 0, 0, 1, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0xaa, 0xbb, 2, 2]);
        let header = Header::parse(&packet).unwrap();
        assert_eq!((header.len, header.sequence, header.timestamp, header.ssrc), (24, 0x0102, 9, 7));
        assert_eq!((header.marker, header.payload_type), (true, 108));
        assert_eq!(header.unpad(&packet[24..]), Some(&[0xaa, 0xbb][..]));
        assert_eq!(header.unpad(&[9]), None);
        for len in 0..packet.len() {
            assert_eq!(Header::parse(&packet[..len]).is_some(), len >= 24);
        }
    }
}
