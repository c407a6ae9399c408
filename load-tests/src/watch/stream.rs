//! One RTP stream of a viewer: its source, its reception, and its block in reports.
use std::time::Instant;

use super::reception::{Counts, Reception};
use super::rtcp::Block;
use super::rtp::Header;
use super::totals::Totals;

/// RFC 6716, section 3.2.5: an Opus packet has 48 frames at most.
const OPUS_FRAMES_MAX: u8 = 48;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ssrc: u32,
    pub(super) reception: Reception,
    /// When the last sender report came, and its time.
    pub(super) sender_report: Option<(Instant, u32)>,
}

impl Stream {
    /// RFC 3550, section 6.4.1.
    pub(super) fn block(&mut self, now: Instant) -> Block {
        let (fraction_lost, lost) = self.reception.report();
        let (last_report, since_last_report) = self.sender_report.map_or((0, 0), |(came, time)| {
            // In units of 1/65536 s.
            let since = now.saturating_duration_since(came).as_micros() * 65_536 / 1_000_000;
            (time, u32::try_from(since).unwrap_or(u32::MAX))
        });
        Block {
            ssrc: self.ssrc,
            fraction_lost,
            lost,
            highest: self.reception.highest_reported(),
            jitter: self.reception.jitter_ticks(),
            last_report,
            since_last_report,
        }
    }
}

/// The stream of a packet's source; another source takes its place.
pub(super) fn stream<'a>(
    slot: &'a mut Option<Stream>,
    header: &Header,
    clock_hz: u32,
    asks: bool,
    replaced: &mut Counts,
) -> &'a mut Stream {
    if let Some(before) = slot.take_if(|stream| stream.ssrc != header.ssrc) {
        replaced.add(&before.reception.counts);
    }
    slot.get_or_insert_with(|| Stream {
        ssrc: header.ssrc,
        reception: Reception::new(clock_hz, asks, header.sequence),
        sender_report: None,
    })
}

/// RFC 6716, section 3: the first byte says how many frames follow.
pub(super) fn count_sound(packet: &[u8], totals: &mut Totals) {
    let is_whole = match packet {
        [] => false,
        [toc, rest @ ..] if toc & 3 == 3 => {
            rest.first().is_some_and(|frames| (1..=OPUS_FRAMES_MAX).contains(&(frames & 0x3f)))
        }
        _ => true,
    };
    *if is_whole { &mut totals.sounds } else { &mut totals.sounds_malformed } += 1;
}
