//! The RTP header (RFC 3550, section 5.1) as one viewer gets it.

/// Bytes of a header without extension.
pub const HEADER_LEN: usize = 12;
/// Bytes that one extension adds: 4 for the profile and length, 4 for the element and its padding.
const EXTENSION_LEN: usize = 8;
/// Bytes that both extensions add.
const EXTENSIONS_LEN: usize = 12;

/// The playout-delay extension under its negotiated id, asking for no delay at all.
///
/// <http://www.webrtc.org/experiments/rtp-hdrext/playout-delay>: 12 bits of least and 12 bits of greatest delay, in
/// units of 10 ms. Carried in the one-byte form of RFC 8285, section 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayoutDelay {
    id: u8,
}

impl PlayoutDelay {
    /// For an id between 1 and 14, the only ones that the one-byte form has.
    pub fn new(id: u8) -> Option<Self> {
        (1..=14).contains(&id).then_some(Self { id })
    }
}

/// The transport-wide sequence number under its negotiated id: the viewer reports when each of these arrived.
///
/// draft-holmer-rmcat-transport-wide-cc-extensions-01, section 2. Packets without it cost no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportNumber {
    id: u8,
    number: u16,
}

impl TransportNumber {
    /// For an id between 1 and 14, the only ones that the one-byte form has.
    pub fn new(id: u8, number: u16) -> Option<Self> {
        (1..=14).contains(&id).then_some(Self { id, number })
    }
}

/// The fields that differ from packet to packet and from viewer to viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The negotiated payload type, 7 bits.
    pub payload_type: u8,
    /// The last packet of a picture; for sound the first packet after a silence.
    pub marker: bool,
    /// The low 16 bits of the packet index.
    pub sequence: u16,
    /// 90 kHz for video, 48 kHz for Opus.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    /// Ask the player to show at once.
    pub playout_delay: Option<PlayoutDelay>,
    /// Ask the viewer to report the packet's arrival.
    pub transport: Option<TransportNumber>,
}

impl Header {
    /// Bytes that [`Self::write`] takes.
    pub fn len(&self) -> usize {
        HEADER_LEN
            + match (self.playout_delay, self.transport) {
                (None, None) => 0,
                (Some(_), None) | (None, Some(_)) => EXTENSION_LEN,
                (Some(_), Some(_)) => EXTENSIONS_LEN,
            }
    }

    /// Never: a header has 12 bytes at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends the header to `out`.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let has_extension = self.playout_delay.is_some() || self.transport.is_some();
        let extension = if has_extension { 0x10 } else { 0 };
        let second = (self.payload_type & 0x7f) | if self.marker { 0x80 } else { 0 };
        out.extend_from_slice(&[0x80 | extension, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]);
        // RFC 8285, section 4.2: the profile, the length in words, then elements of an id, a length less one, and data.
        match (self.playout_delay, self.transport) {
            (None, None) => {}
            (Some(PlayoutDelay { id }), None) => {
                out.extend_from_slice(&[0xbe, 0xde, 0, 1, (id << 4) | 2, 0, 0, 0]);
            }
            (None, Some(TransportNumber { id, number })) => {
                let [n0, n1] = number.to_be_bytes();
                out.extend_from_slice(&[0xbe, 0xde, 0, 1, (id << 4) | 1, n0, n1, 0]);
            }
            (Some(delay), Some(TransportNumber { id, number })) => {
                let [n0, n1] = number.to_be_bytes();
                let elements = [(delay.id << 4) | 2, 0, 0, 0, (id << 4) | 1, n0, n1, 0];
                out.extend_from_slice(&[0xbe, 0xde, 0, 2]);
                out.extend_from_slice(&elements);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_rfc_3550_draws_them() {
        let header = Header {
            payload_type: 102,
            marker: true,
            sequence: 0x1234,
            timestamp: 0x89ab_cdef,
            ssrc: 0x0102_0304,
            playout_delay: None,
            transport: None,
        };
        let mut out = Vec::new();
        header.write(&mut out);
        assert_eq!(out, [0x80, 0xe6, 0x12, 0x34, 0x89, 0xab, 0xcd, 0xef, 1, 2, 3, 4]);
        let low = Header { playout_delay: PlayoutDelay::new(6), ..header };
        out.clear();
        low.write(&mut out);
        assert_eq!(out.len(), low.len());
        assert_eq!(out[0], 0x90);
        assert_eq!(out[12..], [0xbe, 0xde, 0, 1, 0x62, 0, 0, 0]);
        let transport = TransportNumber::new(3, 0xabcd);
        for (header, expected) in [
            (Header { transport, ..header }, vec![0, 1, 0x31, 0xab, 0xcd, 0]),
            (Header { transport, ..low }, vec![0, 2, 0x62, 0, 0, 0, 0x31, 0xab, 0xcd, 0]),
        ] {
            out.clear();
            header.write(&mut out);
            assert_eq!((out.len(), out[0]), (header.len(), 0x90));
            assert_eq!(out[14..], expected);
        }
        assert!(PlayoutDelay::new(0).is_none() && PlayoutDelay::new(15).is_none());
        assert!(TransportNumber::new(0, 1).is_none() && TransportNumber::new(15, 1).is_none());
    }
}
