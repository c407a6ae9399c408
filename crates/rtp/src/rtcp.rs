//! RTCP: the sender report we write and the feedback we read.
use crate::transport_cc::TransportFeedback;

/// RFC 3550, section 12.1 and RFC 4585, section 6.1: packet types.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
/// RFC 4585, section 6.2.1; section 6.3.1; RFC 5104, section 4.3.1; draft-holmer-rmcat-transport-wide-cc-extensions-01,
/// section 3.1.
const FMT_TRANSPORT_CC: u8 = 15;
const FMT_NACK: u8 = 1;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;

/// What a sender report says (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Whose report it is.
    pub ssrc: u32,
    /// Seconds since 1900 in the upper 32 bits, their fraction in the lower.
    pub ntp: u64,
    /// The same instant on the RTP clock.
    pub rtp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub bytes: u32,
}

impl SenderReport {
    /// Appends the report and the CNAME that every compound packet carries (RFC 3550, section 6.1).
    pub fn write(&self, cname: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x80, SENDER_REPORT, 0, 6]);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.ntp.to_be_bytes());
        out.extend_from_slice(&self.rtp.to_be_bytes());
        out.extend_from_slice(&self.packets.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
        let cname = cname.get(..cname.len().min(255)).unwrap_or("");
        // SSRC, item type, length, text, and 1 to 4 zero bytes up to a multiple of 4.
        let padded = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        let words = u16::try_from(padded / 4).unwrap_or(0);
        out.extend_from_slice(&[0x81, SOURCE_DESCRIPTION]);
        out.extend_from_slice(&words.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&[1, u8::try_from(cname.len()).unwrap_or(0)]);
        out.extend_from_slice(cname.as_bytes());
        out.resize(out.len() + padded - (4 + 2 + cname.len()), 0);
    }
}

/// What a viewer tells us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback<'a> {
    /// How one of our sources is received (RFC 3550, section 6.4.1).
    Report(ReportBlock),
    /// Packets that are missing (RFC 4585, section 6.2.1).
    Nack {
        /// The source they belong to.
        ssrc: u32,
        /// Which they are.
        lost: Lost<'a>,
    },
    /// The viewer needs a keyframe (PLI or FIR).
    KeyframeRequest {
        /// The source it concerns.
        ssrc: u32,
    },
    /// When packets with a transport-wide number arrived.
    Arrivals(TransportFeedback<'a>),
    /// The viewer leaves.
    Goodbye,
}

/// One report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source it concerns.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost in all.
    pub lost: u32,
    /// The extended highest sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks of the RTP clock.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time; 0 if there was none.
    pub last_report: u32,
    /// Since that report arrived, in 1/65536 s.
    pub delay: u32,
}

/// The sequence numbers of a NACK: pairs of one number and a mask of the 16 after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost<'a>(&'a [u8]);

impl Lost<'_> {
    /// Every number, in the order of the packet.
    pub fn sequences(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.as_chunks::<4>().0.iter().flat_map(|&[p0, p1, m0, m1]| {
            let first = u16::from_be_bytes([p0, p1]);
            let mask = u16::from_be_bytes([m0, m1]);
            std::iter::once(first).chain(
                (0..16).filter(move |bit| mask & (1 << bit) != 0).map(move |bit| first.wrapping_add(bit + 1)),
            )
        })
    }
}

/// Calls `on` for everything a compound packet says that we understand; the rest is skipped.
///
/// A length that does not fit ends the packet: what came before it has been reported, nothing after it can be trusted.
pub fn parse<'a>(mut compound: &'a [u8], mut on: impl FnMut(Feedback<'a>)) {
    while let Some((&[first, kind, l0, l1], rest)) = compound.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
        let Some((body, next)) = rest.split_at_checked(len) else { return };
        if first >> 6 != 2 {
            return;
        }
        parse_one(first & 0x1f, kind, body, &mut on);
        compound = next;
    }
}

fn parse_one<'a>(count: u8, kind: u8, body: &'a [u8], on: &mut impl FnMut(Feedback<'a>)) {
    match (kind, count) {
        (RECEIVER_REPORT, _) => report_blocks(body.get(4..).unwrap_or(&[]), count, on),
        (SENDER_REPORT, _) => report_blocks(body.get(24..).unwrap_or(&[]), count, on),
        (GOODBYE, _) => on(Feedback::Goodbye),
        (TRANSPORT_FEEDBACK, FMT_NACK) => {
            if let (Some(ssrc), Some(pairs)) = (word(body, 4), body.get(8..)) {
                on(Feedback::Nack { ssrc, lost: Lost(pairs) });
            }
        }
        (TRANSPORT_FEEDBACK, FMT_TRANSPORT_CC) => {
            if let Some(feedback) = body.get(8..).and_then(TransportFeedback::parse) {
                on(Feedback::Arrivals(feedback));
            }
        }
        (PAYLOAD_FEEDBACK, FMT_PLI) => {
            if let Some(ssrc) = word(body, 4) {
                on(Feedback::KeyframeRequest { ssrc });
            }
        }
        (PAYLOAD_FEEDBACK, FMT_FIR) => {
            if let Some(ssrc) = word(body, 8) {
                on(Feedback::KeyframeRequest { ssrc });
            }
        }
        _ => {}
    }
}

fn report_blocks<'a>(blocks: &[u8], count: u8, on: &mut impl FnMut(Feedback<'a>)) {
    for block in blocks.as_chunks::<24>().0.iter().take(usize::from(count)) {
        let at = |offset| word(block, offset).unwrap_or(0);
        on(Feedback::Report(ReportBlock {
            ssrc: at(0),
            fraction_lost: at(4).to_be_bytes()[0],
            lost: at(4) & 0x00ff_ffff,
            highest_sequence: at(8),
            jitter: at(12),
            last_report: at(16),
            delay: at(20),
        }));
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk::<4>().map(|word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(bytes: &[u8]) -> Vec<Feedback<'_>> {
        let mut all = Vec::new();
        parse(bytes, |one| all.push(one));
        all
    }

    #[test]
    fn a_nack_lists_its_first_number_and_every_bit_of_its_mask() {
        let bytes = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0x80, 0x01];
        let all = feedback(&bytes);
        let [Feedback::Nack { ssrc: 2, lost }] = all[..] else { panic!("{all:?}") };
        assert_eq!(lost.sequences().collect::<Vec<_>>(), [0xffff, 0, 15]);
    }

    #[test]
    fn a_compound_packet_is_read_to_its_end() {
        let mut bytes = vec![0x81, 201, 0, 7, 0, 0, 0, 9, 0, 0, 0, 2, 0x40, 0, 0, 5];
        bytes.extend_from_slice(&[0, 1, 0, 7, 0, 0, 0, 30, 0xaa, 0xbb, 0xcc, 0xdd, 0, 1, 0, 0]);
        bytes.extend_from_slice(&[0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 2]);
        bytes.extend_from_slice(&[0x84, 206, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0]);
        // An estimate (REMB), which nobody here asks for.
        bytes.extend_from_slice(&[
            0x8f, 206, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0b, 0, 0,
        ]);
        let all = feedback(&bytes);
        let block = ReportBlock {
            ssrc: 2,
            fraction_lost: 64,
            lost: 5,
            highest_sequence: 0x1_0007,
            jitter: 30,
            last_report: 0xaabb_ccdd,
            delay: 65_536,
        };
        assert_eq!(
            all,
            [
                Feedback::Report(block),
                Feedback::KeyframeRequest { ssrc: 2 },
                Feedback::KeyframeRequest { ssrc: 3 },
            ]
        );
    }

    #[test]
    fn a_sender_report_is_a_whole_number_of_words_with_a_cname() {
        for cname in ["", "a", "ab", "abc", "abcd"] {
            let mut out = Vec::new();
            let report = SenderReport { ssrc: 7, ntp: 1 << 32, rtp: 90_000, packets: 3, bytes: 300 };
            report.write(cname, &mut out);
            assert_eq!(out.len() % 4, 0);
            let words = usize::from(u16::from_be_bytes([out[30], out[31]]));
            assert_eq!(out.len(), 28 + 4 + words * 4, "cname {cname:?}");
            assert_eq!(*out.last().unwrap(), 0);
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let mut state = 1_u32;
        for len in 0..400 {
            let bytes: Vec<u8> = (0..len)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if i % 24 == 0 {
                        0x81
                    } else if i % 24 == 1 {
                        200 + (state >> 28) as u8
                    } else {
                        (state >> 24) as u8 & 7
                    }
                })
                .collect();
            parse(&bytes, |one| {
                if let Feedback::Nack { lost, .. } = one {
                    assert!(lost.sequences().count() <= bytes.len() * 17 / 4);
                }
            });
        }
    }
}
