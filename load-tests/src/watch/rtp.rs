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

/// The transport-wide number of a packet, under the negotiated `id` of its extension, and the packet's source
/// (RFC 8285, section 4.2).
pub(super) fn transport_number(packet: &[u8], id: u8) -> Option<(u16, u32)> {
    if packet.first()? & 0x10 == 0 {
        return None;
    }
    let header = Header::parse(packet)?;
    let at = HEADER_LEN + 4 * usize::from(packet.first()? & 0x0f);
    let mut elements = packet.get(at..header.len)?.strip_prefix(&[0xbe, 0xde])?.get(2..)?;
    while let Some((&first, rest)) = elements.split_first() {
        // A zero is padding, and 15 ends the elements.
        let len = if first == 0 { 0 } else { usize::from(first & 0x0f) + 1 };
        let (element, rest) = rest.split_at_checked(len)?;
        match first >> 4 {
            15 => return None,
            found if found == id && found != 0 => {
                return Some((u16::from_be_bytes(element.try_into().ok()?), header.ssrc));
            }
            _ => elements = rest,
        }
    }
    None
}

/// RFC 5761, section 4: RTCP where the payload type would be 64 to 95.
pub(super) fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_wide_number_is_found_among_other_extensions() {
        let mut packet = vec![0x91, 0x6c, 1, 2, 0, 0, 0, 9, 0, 0, 0, 7];
        packet.extend([0, 0, 0, 1, 0xbe, 0xde, 0, 3]);
        packet.extend([0x52, 1, 2, 3, 0, 0x41, 0xab, 0xcd, 0xf0, 0x41, 9, 9, 5]);
        assert_eq!(transport_number(&packet, 4), Some((0xabcd, 7)));
        assert_eq!(transport_number(&packet, 5), None, "of three bytes");
        assert_eq!(transport_number(&packet, 15), None);
        packet[24] = 0xf0;
        assert_eq!(transport_number(&packet, 4), None, "nothing comes after a 15");
        for len in 0..packet.len() {
            transport_number(&packet[..len], 4);
        }
    }

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
