//! The RTP header (RFC 3550, section 5.1) as one viewer gets it.

/// Bytes of a header without extension.
pub const HEADER_LEN: usize = 12;
/// Bytes that the playout-delay extension adds: 4 for the profile and length, 1 + 3 for the element.
pub const PLAYOUT_DELAY_LEN: usize = 8;

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
}

impl Header {
    /// Bytes that [`Self::write`] takes.
    pub fn len(&self) -> usize {
        if self.playout_delay.is_some() { HEADER_LEN + PLAYOUT_DELAY_LEN } else { HEADER_LEN }
    }

    /// Never: a header has 12 bytes at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends the header to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let extension = if self.playout_delay.is_some() { 0x10 } else { 0 };
        let second = (self.payload_type & 0x7f) | if self.marker { 0x80 } else { 0 };
        out.extend_from_slice(&[0x80 | extension, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]);
        if let Some(PlayoutDelay { id }) = self.playout_delay {
            out.extend_from_slice(&[0xbe, 0xde, 0, 1, (id << 4) | 2, 0, 0, 0]);
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
        assert!(PlayoutDelay::new(0).is_none() && PlayoutDelay::new(15).is_none());
    }
}
