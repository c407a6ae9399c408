//! When each numbered packet arrived, as browsers tell the server
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::reception::{low16, nearest};
use super::rtcp::{self, TRANSPORT_FEEDBACK};
use super::rtp;

/// libwebrtc's `remote_estimator_proxy.cc` sends every 50 to 250 ms; of a small estimate, as receivers have, every 50.
const INTERVAL: Duration = Duration::from_millis(50);
/// Packets that one report speaks of, so that it fits a datagram: 2 bytes for each at most and 2 for 7 of them.
const STATUSES_MAX: u64 = 400;
/// Packets that wait to be told of; then the oldest are left out.
const PENDING_MAX: usize = 2000;
/// The unit of the reference time and of the deltas, in microseconds.
const REFERENCE_US: u64 = 64_000;
const DELTA_US: u64 = 250;
/// Section 3.1.1: the feedback's own format within RTPFB.
const FORMAT: u8 = 15;
/// Section 3.1.4, two-bit symbols.
const SMALL: u16 = 1;
const LARGE: u16 = 2;
const SYMBOLS_PER_CHUNK: usize = 7;

/// The packets that were not told of yet.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The negotiated id of the header extension.
    id: u8,
    zero: Instant,
    /// By their numbers without wrapping.
    pending: BTreeMap<u64, u64>,
    highest: Option<u64>,
    /// The number after the last that was told of.
    next: u64,
    pub(super) due: Option<Instant>,
    media: u32,
    count: u8,
}

impl Arrivals {
    pub(super) fn new(zero: Instant, id: u8) -> Self {
        Self { id, zero, pending: BTreeMap::new(), highest: None, next: 0, due: None, media: 0, count: 0 }
    }

    /// Takes note of an RTP packet, if it has a number.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &[u8]) {
        let Some((number, ssrc)) = rtp::transport_number(packet, self.id) else { return };
        let number = self.extend(number);
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_first();
        }
        let at_us = u64::try_from(now.saturating_duration_since(self.zero).as_micros()).unwrap_or(0);
        self.pending.entry(number).or_insert(at_us);
        self.media = ssrc;
        self.due.get_or_insert(now + INTERVAL);
    }

    /// The reports that are due: each a whole RTCP packet.
    pub(super) fn reports(&mut self, ssrc: u32) -> Vec<Vec<u8>> {
        self.due = None;
        let mut reports = Vec::new();
        while let (Some((&first, _)), Some((&last, _))) =
            (self.pending.first_key_value(), self.pending.last_key_value())
        {
            // What is missing since the last report is told with the next that came, if that has room in it; what came late is told again.
            let base =
                if first.saturating_sub(self.next) < STATUSES_MAX { self.next.min(first) } else { first };
            let end = last.min(base + STATUSES_MAX - 1);
            let (report, told) = self.report(ssrc, base, end);
            reports.push(report);
            self.next = told + 1;
            self.pending = self.pending.split_off(&self.next);
        }
        reports
    }

    /// A report of the numbers from `base` to `end`, and the last number that it tells of.
    fn report(&mut self, ssrc: u32, base: u64, end: u64) -> (Vec<u8>, u64) {
        let mut clock_us = 0;
        let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
        let mut reference = 0;
        let mut is_first = true;
        for number in base..=end {
            let Some(&at_us) = self.pending.get(&number) else {
                symbols.push(0);
                continue;
            };
            if std::mem::take(&mut is_first) {
                reference = at_us / REFERENCE_US;
                clock_us = reference * REFERENCE_US;
            }
            let ticks = (i128::from(at_us) - i128::from(clock_us)).div_euclid(i128::from(DELTA_US));
            let (Ok(short), small) = (i16::try_from(ticks), u8::try_from(ticks)) else {
                break; // Too far from the one before: the next report begins with it.
            };
            match small {
                Ok(small) => {
                    symbols.push(SMALL);
                    deltas.push(small);
                }
                Err(_) => {
                    symbols.push(LARGE);
                    deltas.extend(short.to_be_bytes());
                }
            }
            clock_us = clock_us.saturating_add_signed(i64::from(short) * DELTA_US.cast_signed());
        }
        let told = base + (symbols.len() as u64).max(1) - 1;
        let mut content = Vec::with_capacity(64);
        content.extend(ssrc.to_be_bytes());
        content.extend(self.media.to_be_bytes());
        content.extend(low16(base).to_be_bytes());
        content.extend(low16(symbols.len() as u64).to_be_bytes());
        let [.., r0, r1, r2] = reference.to_be_bytes();
        content.extend([r0, r1, r2, self.count]);
        self.count = self.count.wrapping_add(1);
        for seven in symbols.chunks(SYMBOLS_PER_CHUNK) {
            let bits =
                seven.iter().enumerate().fold(0, |bits, (at, symbol)| bits | (symbol << (12 - 2 * at)));
            content.extend((0xc000_u16 | bits).to_be_bytes());
        }
        content.extend(deltas);
        // RFC 3550, section 6.4.1: the last byte says how many were added.
        let padding = content.len().next_multiple_of(4) - content.len();
        content.extend((1_u8..=3).take(padding));
        let mut report = Vec::with_capacity(4 + content.len());
        rtcp::header(&mut report, FORMAT, TRANSPORT_FEEDBACK, content.len() / 4);
        if padding > 0 {
            report[0] |= 0x20;
        }
        report.extend(content);
        (report, told)
    }

    /// The number without wrapping: the one nearest to the highest so far.
    fn extend(&mut self, number: u16) -> u64 {
        let Some(highest) = self.highest else {
            // Room below, for packets that overtook each other at the beginning.
            let number = u64::from(number) + (1 << 16);
            self.next = number;
            self.highest = Some(number);
            return number;
        };
        let extended = nearest(highest, number);
        self.highest = Some(highest.max(extended));
        extended
    }
}

#[cfg(test)]
mod tests {
    use webrtc_core::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use webrtc_core::shared::marshal::Unmarshal;

    use super::*;

    fn packet(number: u16) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        vec![0x90, 108, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0xbe, 0xde, 0, 1, 0x41, high, low, 0]
    }

    /// What somebody else's reader makes of a report: numbers and arrivals in microseconds.
    fn read(report: &[u8]) -> Vec<(u16, Option<i64>)> {
        let read = TransportLayerCc::unmarshal(&mut &*report).unwrap();
        assert_eq!((read.sender_ssrc, read.media_ssrc), (5, 9));
        let symbols = read.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
            PacketStatusChunk::RunLengthChunk(_) => panic!("runs are not written"),
        });
        let mut at_us = i64::from(read.reference_time) * 64_000;
        let mut deltas = read.recv_deltas.iter();
        let numbers = (0..read.packet_status_count).map(|n| read.base_sequence_number.wrapping_add(n));
        let all = numbers.zip(symbols).map(|(number, symbol)| {
            if symbol == SymbolTypeTcc::PacketNotReceived {
                return (number, None);
            }
            at_us += deltas.next().unwrap().delta;
            (number, Some(at_us))
        });
        let all = all.collect();
        assert_eq!(deltas.count(), 0);
        all
    }

    #[test]
    fn what_came_what_is_missing_and_what_came_late_is_told() {
        let zero = Instant::now();
        let mut arrivals = Arrivals::new(zero, 4);
        let at = |ms| zero + Duration::from_millis(ms);
        for (ms, number) in [(100, 0xfffe), (101, 0xffff), (200, 1), (190, 2)] {
            arrivals.on_packet(at(ms), &packet(number));
        }
        assert_eq!(arrivals.due, Some(at(150)));
        let reports = arrivals.reports(5);
        let expected = [
            (0xfffe, Some(100_000)),
            (0xffff, Some(101_000)),
            (0, None),
            (1, Some(200_000)),
            (2, Some(190_000)),
        ];
        assert_eq!((reports.len(), arrivals.due), (1, None));
        assert_eq!(read(&reports[0]), expected);
        // Lost between two reports, and the one that was missing.
        arrivals.on_packet(at(300), &packet(5));
        assert_eq!(read(&arrivals.reports(5)[0]), [(3, None), (4, None), (5, Some(300_000))]);
        arrivals.on_packet(at(310), &packet(0));
        arrivals.on_packet(at(310), &packet(6));
        let late = read(&arrivals.reports(5)[0]);
        assert_eq!((late[0], late[6]), ((0, Some(310_000)), (6, Some(310_000))));
        assert!(arrivals.reports(5).is_empty());
    }

    #[test]
    fn reports_fit_a_datagram_whatever_came() {
        let zero = Instant::now();
        for step in [1_u16, 3, 9, 500, 40_000] {
            let mut arrivals = Arrivals::new(zero, 4);
            for n in 0..3000_u16 {
                arrivals.on_packet(
                    zero + Duration::from_millis(u64::from(n) * 9000),
                    &packet(n.wrapping_mul(step)),
                );
            }
            let reports = arrivals.reports(5);
            assert!(reports.iter().all(|report| report.len() <= 1000 && report.len().is_multiple_of(4)));
            let told = reports.iter().flat_map(|report| read(report)).filter(|(_, at)| at.is_some()).count();
            assert!((1500..=3000).contains(&told), "{told} of 3000 with a step of {step}");
        }
    }
}
