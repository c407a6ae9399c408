//! Transport-wide congestion control feedback: when each numbered packet arrived at the viewer
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).

/// Packets that one feedback may speak of. Viewers report every 50 to 250 ms, so that this is more than 80 Mbit/s; the
/// draft's 65,535 in a few bytes would cost more to walk than to send.
const STATUSES_MAX: usize = 2048;
/// The unit of the reference time, and of arrival deltas, in microseconds.
const REFERENCE_UNIT_US: i64 = 64_000;
const DELTA_UNIT_US: i64 = 250;

/// One feedback packet's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    base: u16,
    count: usize,
    reference_us: i64,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// What a chunk says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Missing,
    SmallDelta,
    LargeDelta,
}

impl<'a> TransportFeedback<'a> {
    /// Reads what follows the two SSRCs of the packet; `None` when it is cut off or too large.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        let (&[b0, b1, c0, c1, r0, r1, r2, _], rest) = content.split_first_chunk::<8>()?;
        let count = usize::from(u16::from_be_bytes([c0, c1]));
        if count > STATUSES_MAX {
            return None;
        }
        // A signed number of 24 bits.
        let reference = i64::from(i32::from_be_bytes([r0, r1, r2, 0]) >> 8);
        let mut told = 0;
        let mut chunks_len = 0;
        while told < count {
            let chunk = rest.get(chunks_len..)?.first_chunk::<2>()?;
            told = told.saturating_add(capacity(u16::from_be_bytes(*chunk)));
            chunks_len += 2;
        }
        let (chunks, deltas) = rest.split_at_checked(chunks_len)?;
        let base = u16::from_be_bytes([b0, b1]);
        Some(Self { base, count, reference_us: reference * REFERENCE_UNIT_US, chunks, deltas })
    }

    /// Every packet in the order of its number, with the time of its arrival on the viewer's clock in microseconds; the
    /// zero of that clock is arbitrary and wraps after 12 days. Ends early where arrival times are cut off.
    pub fn packets(&self) -> impl Iterator<Item = (u16, Option<i64>)> + '_ {
        let statuses =
            self.chunks.as_chunks::<2>().0.iter().flat_map(|chunk| statuses(u16::from_be_bytes(*chunk)));
        let mut deltas = self.deltas;
        let mut at_us = self.reference_us;
        let numbers = (0..=u16::MAX).map(|offset| self.base.wrapping_add(offset));
        statuses.take(self.count).zip(numbers).map_while(move |(status, number)| {
            let delta = match status {
                Status::Missing => return Some((number, None)),
                Status::SmallDelta => {
                    let (&[delta], rest) = deltas.split_first_chunk::<1>()?;
                    deltas = rest;
                    i64::from(delta)
                }
                Status::LargeDelta => {
                    let (&delta, rest) = deltas.split_first_chunk::<2>()?;
                    deltas = rest;
                    i64::from(i16::from_be_bytes(delta))
                }
            };
            at_us += delta * DELTA_UNIT_US;
            Some((number, Some(at_us)))
        })
    }
}

/// How many packets a chunk speaks of (sections 3.1.3 and 3.1.4).
fn capacity(chunk: u16) -> usize {
    match chunk >> 14 {
        0 | 1 => usize::from(chunk & 0x1fff),
        2 => 14,
        _ => 7,
    }
}

fn statuses(chunk: u16) -> impl Iterator<Item = Status> {
    (0..capacity(chunk)).map(move |place| {
        let symbol = match chunk >> 14 {
            0 | 1 => (chunk >> 13) & 3,
            2 => (chunk >> (13_usize.saturating_sub(place))) & 1,
            _ => (chunk >> (12_usize.saturating_sub(2 * place))) & 3,
        };
        match symbol {
            1 => Status::SmallDelta,
            2 => Status::LargeDelta,
            _ => Status::Missing,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(content: &[u8]) -> Option<Vec<(u16, Option<i64>)>> {
        TransportFeedback::parse(content).map(|feedback| feedback.packets().collect())
    }

    #[test]
    fn runs_and_both_vectors_are_read() {
        // A run of three small deltas; one-bit symbols "10..."; two-bit symbols "small, missing, large".
        let bits = 0x8000_u16 | (1 << 13);
        let pairs = 0xc000_u16 | (1 << 12) | (2 << 8);
        let mut content = vec![0xff, 0xfe, 0, 20, 0, 0, 2, 9];
        for chunk in [0x2003, bits, pairs] {
            content.extend_from_slice(&chunk.to_be_bytes());
        }
        content.extend_from_slice(&[4, 0, 8, 1, 2, 0xff, 0xfc]);
        let all = packets(&content).unwrap();
        assert_eq!(all.len(), 20);
        assert_eq!(
            all[..4],
            [(0xfffe, Some(129_000)), (0xffff, Some(129_000)), (0, Some(131_000)), (1, Some(131_250))]
        );
        assert!(all[4..17].iter().all(|(_, at)| at.is_none()));
        assert_eq!(all[17..], [(15, Some(131_750)), (16, None), (17, Some(130_750))]);
    }

    #[test]
    fn the_reference_time_is_signed() {
        assert_eq!(packets(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0, 0x20, 1, 0]).unwrap(), [(0, Some(-64_000))]);
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_refused_or_ends_early() {
        assert_eq!(packets(&[0, 0, 0, 1, 0, 0, 0]), None);
        assert_eq!(packets(&[0, 0, 0, 1, 0, 0, 0, 0]), None, "no chunk");
        assert_eq!(packets(&[0, 0, 0x10, 0, 0, 0, 0, 0, 0x1f, 0xff]), None, "more packets than are sent");
        assert_eq!(packets(&[0, 0, 0, 2, 0, 0, 0, 0, 0x20, 2, 4]).unwrap(), [(0, Some(1000))]);
        // A run of length zero says nothing, so the chunks never end.
        assert_eq!(packets(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
