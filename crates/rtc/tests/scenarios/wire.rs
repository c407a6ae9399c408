//! RTP headers, feedback packets and message integrity, written from their RFCs and sharing nothing with the node.
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use is::stun::{StunMessage, TransId};
use rtc::sdp::Credentials;

/// The id of the transport-wide number that viewers agree on.
pub(crate) const TRANSPORT_CC_ID: u8 = 3;
/// Whose reports they are.
const OUR_SSRC: u32 = 1;

/// A connectivity check of a viewer (RFC 8445, section 7.2.2).
pub(crate) fn check(node: &Credentials, nominates: bool) -> Vec<u8> {
    let username = format!("{}:remote", node.ufrag);
    let message = StunMessage::binding_request(&username, TransId::new(), true, 1, 100, nominates);
    let mut bytes = vec![0; 300];
    let len = message.to_bytes(Some(node.pwd.as_bytes()), &mut bytes, sha1_hmac).unwrap();
    bytes.truncate(len);
    bytes
}

/// What a receiver report says of one source.
pub(crate) struct Block {
    pub(crate) ssrc: u32,
    pub(crate) lost: u64,
    pub(crate) highest: u64,
    /// The middle of the last sender report's NTP time, and since when it is here.
    pub(crate) last: u32,
    pub(crate) held: Duration,
}

/// A receiver report (RFC 3550, section 6.4.2).
pub(crate) fn receiver_report(blocks: impl Iterator<Item = Block>) -> Vec<u8> {
    let mut report = vec![0x80, 201, 0, 1];
    report.extend_from_slice(&OUR_SSRC.to_be_bytes());
    for block in blocks {
        report[0] += 1;
        report[3] += 6;
        let lost = u32::try_from(block.lost.min(0x7f_ffff)).unwrap();
        let highest = u32::try_from(block.highest & 0xffff_ffff).unwrap();
        let held = u32::try_from(block.held.as_micros() * 65_536 / 1_000_000).unwrap();
        for word in [block.ssrc, lost, highest, 0, block.last, held] {
            report.extend_from_slice(&word.to_be_bytes());
        }
    }
    report
}

/// When these packets arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1), all in vectors of two bits.
pub(crate) fn arrivals(
    numbers: RangeInclusive<u64>,
    arrived: &BTreeMap<u64, Instant>,
    epoch: Instant,
    count: usize,
) -> Vec<u8> {
    let micros = |at: &Instant| i64::try_from((*at - epoch).as_micros()).unwrap();
    let reference = arrived.range(numbers.clone()).next().map_or(0, |(_, at)| micros(at)) / 64_000;
    let mut content = u16::try_from(numbers.start() & 0xffff).unwrap().to_be_bytes().to_vec();
    let mut at_units = reference * 256;
    let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
    for number in numbers {
        let Some(at) = arrived.get(&number) else {
            symbols.push(0_u16);
            continue;
        };
        let units = micros(at) / 250;
        let delta = units - at_units;
        at_units = units;
        if let Ok(small) = u8::try_from(delta) {
            symbols.push(1);
            deltas.push(small);
        } else {
            symbols.push(2);
            deltas.extend_from_slice(&i16::try_from(delta).unwrap_or(i16::MAX).to_be_bytes());
        }
    }
    content.extend_from_slice(&u16::try_from(symbols.len()).unwrap().to_be_bytes());
    content.extend_from_slice(&reference.to_be_bytes()[5..]);
    content.push(u8::try_from(count % 256).unwrap());
    for seven in symbols.chunks(7) {
        let bits = seven.iter().zip(0..).fold(0, |bits, (symbol, place)| bits | symbol << (12 - 2 * place));
        content.extend_from_slice(&(0xc000 | bits).to_be_bytes());
    }
    content.extend_from_slice(&deltas);
    content.resize(content.len().next_multiple_of(4), 0);
    content
}

/// A header as RFC 3550, section 5.1 and RFC 8285, section 4.2 have it.
pub(crate) struct Header {
    pub(crate) pt: u8,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) transport: Option<u16>,
}

impl Header {
    /// The header and what follows it.
    pub(crate) fn parse(packet: &[u8]) -> (Self, &[u8]) {
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let (mut at, mut transport) = (12, None);
        if packet[0] & 0x10 != 0 {
            assert_eq!(packet[12..14], [0xbe, 0xde]);
            at += 4 + 4 * usize::from(packet[15]);
            let mut rest = &packet[16..at];
            while let [head, after @ ..] = rest {
                let len = if *head == 0 { 0 } else { usize::from(head & 0xf) + 1 };
                if head >> 4 == TRANSPORT_CC_ID {
                    transport = Some(u16::from_be_bytes([after[0], after[1]]));
                }
                rest = &after[len..];
            }
        }
        let [_, second, s0, s1, ..] = packet else { panic!("a header has 12 bytes") };
        let header = Self {
            pt: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([*s0, *s1]),
            timestamp: word(4),
            ssrc: word(8),
            transport,
        };
        (header, &packet[at..])
    }
}

/// A feedback packet (RFC 4585, section 6.1).
pub(crate) fn feedback(pt: u8, format: u8, ssrc: u32, content: &[u8]) -> Vec<u8> {
    let words = u16::try_from(2 + content.len() / 4).unwrap();
    let mut feedback = vec![0x80 | format, pt];
    feedback.extend_from_slice(&words.to_be_bytes());
    feedback.extend_from_slice(&OUR_SSRC.to_be_bytes());
    feedback.extend_from_slice(&ssrc.to_be_bytes());
    feedback.extend_from_slice(content);
    feedback
}

/// A 16-bit number with its rollovers, by the highest so far.
pub(crate) fn extend(number: u16, highest: &mut Option<u64>) -> u64 {
    let Some(known) = *highest else {
        let first = u64::from(number) + (1 << 16);
        *highest = Some(first);
        return first;
    };
    let ahead = number.wrapping_sub(u16::try_from(known & 0xffff).unwrap());
    let index =
        if ahead < 0x8000 { known + u64::from(ahead) } else { known - u64::from(0_u16.wrapping_sub(ahead)) };
    *highest = Some(known.max(index));
    index
}

/// The answer to a check of the node, which asks whether what it sends here arrives; `None` for anything else.
pub(crate) fn answer_check(bytes: &[u8], password: &str) -> Option<Vec<u8>> {
    let request = StunMessage::parse(bytes).ok().filter(StunMessage::is_binding_request)?;
    let reply = StunMessage::binding_reply(request.trans_id(), ([10, 0, 0, 1], 8189).into());
    let mut bytes = vec![0; 300];
    let len = reply.to_bytes(Some(password.as_bytes()), &mut bytes, sha1_hmac).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

fn sha1_hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().unwrap()
}
