//! RTCP of a receiver: reports and requests written, sender reports read (RFC 3550, RFC 4585).

/// RFC 3550, section 6.1: at most 31 blocks fit in a report; a viewer has two streams.
const BLOCKS_MAX: usize = 4;
/// Entries of one generic NACK (RFC 4585, section 6.2.1); each covers 17 packets.
pub(super) const NACK_ENTRIES_MAX: usize = 64;
/// Packets of a received compound that are looked at.
const PACKETS_MAX: usize = 32;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// What a receiver says about one stream (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    pub(super) ssrc: u32,
    pub(super) fraction_lost: u8,
    pub(super) lost: u32,
    pub(super) highest: u32,
    pub(super) jitter: u32,
    pub(super) last_report: u32,
    pub(super) since_last_report: u32,
}

/// Begins a compound: receiver report and CNAME, as RFC 3550, section 6.1 wants every compound to.
pub(super) fn report(ssrc: u32, blocks: &[Block]) -> Vec<u8> {
    let blocks = blocks.get(..blocks.len().min(BLOCKS_MAX)).unwrap_or(&[]);
    let mut out = Vec::with_capacity(128);
    let count = u8::try_from(blocks.len()).unwrap_or(0);
    header(&mut out, count, RECEIVER_REPORT, 1 + 6 * blocks.len());
    out.extend(ssrc.to_be_bytes());
    for block in blocks {
        out.extend(block.ssrc.to_be_bytes());
        out.extend(((u32::from(block.fraction_lost) << 24) | (block.lost & 0xff_ffff)).to_be_bytes());
        for word in [block.highest, block.jitter, block.last_report, block.since_last_report] {
            out.extend(word.to_be_bytes());
        }
    }
    // One chunk: SSRC, CNAME of 8 letters, end and padding to a word.
    header(&mut out, 1, DESCRIPTION, 4);
    out.extend(ssrc.to_be_bytes());
    out.extend([1, 8]);
    out.extend(format!("{ssrc:08x}").into_bytes());
    out.extend([0, 0]);
    out
}

/// Appends a generic NACK for `sequences`, which are in ascending order.
pub(super) fn nack(out: &mut Vec<u8>, ssrc: u32, media: u32, sequences: &[u16]) {
    let mut entries: Vec<(u16, u16)> = Vec::new();
    for sequence in sequences {
        match entries.last_mut() {
            Some((first, mask)) if (1..=16).contains(&sequence.wrapping_sub(*first)) => {
                *mask |= 1 << (sequence.wrapping_sub(*first) - 1);
            }
            _ => entries.push((*sequence, 0)),
        }
    }
    entries.truncate(NACK_ENTRIES_MAX);
    if entries.is_empty() {
        return;
    }
    header(out, 1, TRANSPORT_FEEDBACK, 2 + entries.len());
    out.extend(ssrc.to_be_bytes());
    out.extend(media.to_be_bytes());
    for (first, mask) in entries {
        out.extend(first.to_be_bytes());
        out.extend(mask.to_be_bytes());
    }
}

/// Appends a picture loss indication (RFC 4585, section 6.3.1).
pub(super) fn picture_loss(out: &mut Vec<u8>, ssrc: u32, media: u32) {
    header(out, 1, PAYLOAD_FEEDBACK, 2);
    out.extend(ssrc.to_be_bytes());
    out.extend(media.to_be_bytes());
}

/// What the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The middle 32 bits of the report's NTP time, which our reports repeat.
    SenderReport {
        ssrc: u32,
        ntp_middle: u32,
    },
    Goodbye,
}

/// Reads a compound; stops at the first thing that is not RTCP.
pub(super) fn read(mut compound: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    for _ in 0..PACKETS_MAX {
        let Some([_, kind, l0, l1]) = compound.first_chunk::<4>().copied() else { break };
        let len = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let Some((packet, rest)) = compound.split_at_checked(len) else { break };
        compound = rest;
        let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        match kind {
            SENDER_REPORT => {
                if let (Some(ssrc), Some(seconds), Some(fraction)) = (word(4), word(8), word(12)) {
                    told.push(Told::SenderReport { ssrc, ntp_middle: (seconds << 16) | (fraction >> 16) });
                }
            }
            GOODBYE => told.push(Told::Goodbye),
            _ => {}
        }
    }
    told
}

pub(super) fn header(out: &mut Vec<u8>, count: u8, kind: u8, words: usize) {
    out.extend([0x80 | count, kind]);
    out.extend(u16::try_from(words).expect("a few dozen words").to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compound_is_made_of_whole_packets() {
        let mut compound = report(7, &[Block { ssrc: 9, lost: 3, ..Block::default() }]);
        nack(&mut compound, 7, 9, &[10, 11, 26, 27, 40]);
        picture_loss(&mut compound, 7, 9);
        let mut kinds = Vec::new();
        let mut rest = &compound[..];
        while let [_, kind, high, low, ..] = *rest {
            kinds.push(kind);
            rest = &rest[4 + 4 * usize::from(u16::from_be_bytes([high, low]))..];
        }
        assert_eq!(kinds, [201, 202, 205, 206]);
        assert!(rest.is_empty());
        let entries = [0, 10, 0x80, 0x01, 0, 27, 0x10, 0];
        assert!(compound.windows(8).any(|window| window == entries), "10, 11, 26 and 27, 40");
    }

    #[test]
    fn a_sender_report_gives_the_middle_of_its_time() {
        let mut packet = vec![0x80, 200, 0, 6, 0, 0, 0, 5, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        packet.extend([0; 12]);
        packet.extend([0x81, 203, 0, 1, 0, 0, 0, 5]);
        assert_eq!(read(&packet), [Told::SenderReport { ssrc: 5, ntp_middle: 0x3344_5566 }, Told::Goodbye]);
        for len in 0..packet.len() {
            read(&packet[..len]);
        }
    }
}
