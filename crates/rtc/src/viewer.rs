//! One viewer's media: audio, video, and the reports that go with them.
mod pace;
mod replay;
mod resend;
mod video;

use std::time::{Duration, Instant};

use media::MediaTime;
use rand::Rng;
use rand::rngs::StdRng;
use rtp::rtcp::{Lost, ReportBlock, SenderReport};
use rtp::transport_cc::TransportFeedback;
use rtp::{Header, Packets};

pub(crate) use self::resend::Crowd;
use self::video::Video;
use crate::batch::{Batch, Class, Path};
use crate::ring::Ring;
use crate::sdp::{AudioTerms, Terms};
use crate::sequence::{Numbered, low16, low32};
use crate::srtp::Srtp;

/// How often a viewer gets sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The clock of Opus in RTP (RFC 7587, section 4.1).
const AUDIO_CLOCK_HZ: u32 = 48_000;
/// How far audio may come behind its video. Players hold the video back until its audio is there, which takes this
/// much longer: an AAC frame must be full, encoders write audio in lumps of a frame of video's length, and a player buffers
/// them. Nobody notices 125 ms (ITU-R BT.1359-1), and broadcasters allow themselves 60 (EBU R37).
const AUDIO_BEHIND: MediaTime = MediaTime::from_millis(45);
/// The longest step between two packets of audio that is not a silence.
const AUDIO_STEP_MAX: MediaTime = MediaTime::from_millis(20);
/// Sender reports that are remembered for measuring the round trip: viewers report at least every five seconds.
const SENT_REPORTS: usize = 6;
/// A round trip longer than this is a viewer that slept.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// What a viewer sends through: its keys, its way out, and the arena of the pass.
pub(crate) struct Out<'a> {
    pub(crate) srtp: &'a mut Srtp,
    pub(crate) path: Path,
    pub(crate) batch: &'a mut Batch,
}

/// What happened to one viewer's media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewerStats {
    /// RTP packets sent, retransmissions included.
    pub packets: u64,
    /// Bytes of RTP payload sent, retransmissions included.
    pub bytes: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Packets that were asked for again beyond the budget.
    pub resends_refused: u64,
    /// Packets that the viewer reports as lost, by its last report on each track.
    pub lost: u64,
    /// Keyframe requests received.
    pub keyframe_requests: u64,
    /// Times that frames were skipped up to a keyframe.
    pub skips: u64,
}

/// The media state of one viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    video: Option<Video>,
    audio: Option<Audio>,
    next_report: Instant,
    /// The middle of the NTP time of reports that were sent, and when: a ring.
    sent_reports: [Option<(u32, Instant)>; SENT_REPORTS],
    reports: usize,
    /// As the last report on either track shows it.
    round_trip: Option<Duration>,
    pub(crate) stats: ViewerStats,
}

#[derive(Debug)]
struct Audio {
    terms: AudioTerms,
    next: u64,
    offset: u32,
    latest: Option<MediaTime>,
    source: Source,
}

/// What sender reports count (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    packets: u32,
    bytes: u32,
    lost: u32,
    /// The last packet that the viewer says it has, in the order of their numbers.
    arrived: Option<u16>,
}

impl Viewer {
    pub(crate) fn new(now: Instant, terms: &Terms, burst_multiple: u32, rng: &mut StdRng) -> Self {
        let video = terms.video.clone().map(|terms| Video::new(now, terms, burst_multiple, rng));
        let audio = terms.audio.clone().map(|terms| Audio {
            terms,
            next: u64::from(start(rng)),
            offset: rng.random(),
            latest: None,
            source: Source::default(),
        });
        Self {
            video,
            audio,
            next_report: now,
            sent_reports: [None; SENT_REPORTS],
            reports: 0,
            round_trip: None,
            stats: ViewerStats::default(),
        }
    }

    /// Sends one packet of audio. Audio is never queued: whoever cannot take it now has lost it.
    pub(crate) fn send_audio(&mut self, frame: &Packets, out: &mut Out<'_>) {
        let Some(audio) = &mut self.audio else { return };
        let is_after_silence = audio.latest.is_none_or(|latest| frame.time - latest > AUDIO_STEP_MAX);
        audio.latest = Some(frame.time);
        let numbered = Numbered {
            index: audio.next,
            timestamp: low32(frame.time.ticks(AUDIO_CLOCK_HZ)).wrapping_add(audio.offset),
        };
        audio.next += 1;
        let header = Header {
            payload_type: audio.terms.pt,
            marker: is_after_silence,
            sequence: low16(numbered.index),
            timestamp: numbered.timestamp,
            ssrc: audio.terms.ssrc,
            playout_delay: None,
            transport: None,
        };
        let Some(payload) = frame.payload(0) else { return };
        write(out, Class::Audio, header, numbered.index, &[payload]);
        if audio.source.is_silent() {
            self.next_report = self.next_report.min(frame.arrival);
        }
        audio.source.count(payload.len());
        self.stats.count(payload.len());
    }

    /// Sends what video is due, a pass at most. Returns when the next pass may be, if there is more to send.
    pub(crate) fn send_video(&mut self, now: Instant, ring: &Ring, out: &mut Out<'_>) -> Option<Instant> {
        let video = self.video.as_mut()?;
        let was_silent = video.source.is_silent();
        let next = video.send(now, ring, &mut self.stats, out);
        if was_silent && !video.source.is_silent() {
            self.next_report = self.next_report.min(now);
        }
        next
    }

    /// Answers a NACK from the stream's ring: retransmissions on their own source where negotiated (RFC 4588), else
    /// the very same packet.
    pub(crate) fn on_nack(
        &mut self,
        now: Instant,
        (ssrc, lost): (u32, Lost<'_>),
        ring: &Ring,
        (crowd, random): (&mut Crowd, f64),
        out: &mut Out<'_>,
    ) {
        let round_trip = self.round_trip_now();
        let Some(video) = self.video.as_mut().filter(|video| video.terms.ssrc == ssrc && video.terms.nack)
        else {
            return;
        };
        if video.on_nack(now, lost, crowd, random) {
            video.resend(now, lost.sequences(), ring, round_trip, &mut self.stats, out);
        }
    }

    /// When answers that wait are due.
    pub(crate) fn next_resend(&self) -> Option<Instant> {
        self.video.as_ref()?.next_resend()
    }

    /// Sends again what has waited for this moment.
    pub(crate) fn resend_waiting(&mut self, now: Instant, ring: &Ring, out: &mut Out<'_>) {
        let round_trip = self.round_trip_now();
        let Some(video) = &mut self.video else { return };
        let due = video.take_due(now);
        if !due.is_empty() {
            video.resend(now, due.into_iter(), ring, round_trip, &mut self.stats, out);
        }
    }

    /// The round trip as it was when the viewer last reported, or what the queue on the way makes of it since.
    fn round_trip_now(&self) -> Option<Duration> {
        let queue = self.video.as_ref().map_or(Duration::ZERO, |video| video.pace.queue());
        self.round_trip.map(|round_trip| round_trip.max(queue)).or((!queue.is_zero()).then_some(queue))
    }

    /// The viewer says when packets arrived.
    pub(crate) fn on_arrivals(&mut self, now: Instant, feedback: &TransportFeedback<'_>, ring: &Ring) {
        if let Some(video) = &mut self.video {
            video.on_arrivals(now, feedback, ring);
        }
    }

    /// Answers a keyframe request with the group of pictures once more. Returns whether there is now something to send.
    pub(crate) fn on_keyframe_request(&mut self, now: Instant, ring: &Ring) -> bool {
        self.stats.keyframe_requests += 1;
        self.video.as_mut().is_some_and(|video| video.on_keyframe_request(now, ring))
    }

    /// Begins with the newest keyframe again: the first packets cannot have been understood.
    pub(crate) fn restart(&mut self, now: Instant, ring: &Ring) -> bool {
        self.video.as_mut().is_some_and(|video| video.restart(now, ring))
    }

    /// Leaves out video up to the next keyframe, and sends that no faster than the link takes it.
    pub(crate) fn skip(&mut self, now: Instant, ring: &Ring) {
        if let Some(video) = &mut self.video {
            video.pace.on_loss(now);
            video.skip(ring, &mut self.stats);
        }
    }

    /// A report block: its loss count ends up in the viewer's statistics, its times tell the round trip. Returns whether it is
    /// about the video.
    pub(crate) fn on_report(&mut self, now: Instant, block: &ReportBlock) -> bool {
        let ssrc = block.ssrc;
        let is_video = self.video.as_ref().is_some_and(|video| video.terms.ssrc == ssrc);
        let video =
            self.video.as_mut().filter(|video| video.terms.ssrc == ssrc).map(|video| &mut video.source);
        let audio =
            self.audio.as_mut().filter(|audio| audio.terms.ssrc == ssrc).map(|audio| &mut audio.source);
        let Some(source) = video.or(audio) else { return false };
        // The count has 24 bits and is signed: duplicates can make it negative (RFC 3550, section 6.4.1).
        let lost = if block.lost >= 1 << 23 { 0 } else { block.lost };
        self.stats.lost = self.stats.lost - u64::from(source.lost) + u64::from(lost);
        source.lost = lost;
        source.arrived = Some(low16(block.highest_sequence.into()));
        // RFC 3550, section 6.4.1: since that report was sent, less the time it spent at the viewer.
        let sent = self.sent_reports.iter().flatten().find(|(ntp, _)| *ntp == block.last_report);
        if let Some((_, at)) = sent {
            let held = Duration::from_secs(1).mul_f64(f64::from(block.delay) / 65_536.0);
            let round_trip = now.saturating_duration_since(*at).saturating_sub(held);
            self.round_trip = Some(round_trip).filter(|took| *took <= ROUND_TRIP_MAX).or(self.round_trip);
            if let Some(video) = &mut self.video {
                video.pace.on_round_trip(now, round_trip);
            }
        }
        is_video
    }

    /// When the next sender reports are due.
    pub(crate) fn next_report(&self) -> Instant {
        self.next_report
    }

    /// Sends a report for each track that has been sent anything: the first at once, since players map the tracks to each
    /// other by them. `time` is the media time of this very moment and `ntp` the wall clock's.
    pub(crate) fn send_reports(
        &mut self,
        now: Instant,
        time: MediaTime,
        ntp: u64,
        cname: &str,
        out: &mut Out<'_>,
    ) {
        self.next_report = now + REPORT_INTERVAL;
        let [_, _, n2, n3, n4, n5, ..] = ntp.to_be_bytes();
        if let Some(place) = self.sent_reports.get_mut(self.reports % SENT_REPORTS) {
            *place = Some((u32::from_be_bytes([n2, n3, n4, n5]), now));
        }
        self.reports = self.reports.wrapping_add(1);
        let video = self
            .video
            .as_ref()
            .map(|video| (video.terms.ssrc, video.sequence.timestamp_at(time), video.source));
        let audio_time = time - AUDIO_BEHIND;
        let audio = self.audio.as_ref().map(|audio| {
            let rtp = low32(audio_time.ticks(AUDIO_CLOCK_HZ)).wrapping_add(audio.offset);
            (audio.terms.ssrc, rtp, audio.source)
        });
        let sending = video.into_iter().chain(audio).filter(|(.., source)| !source.is_silent());
        for (ssrc, rtp, source) in sending {
            let start = out.batch.arena.len();
            let report = SenderReport { ssrc, ntp, rtp, packets: source.packets, bytes: source.bytes };
            report.write(cname, &mut out.batch.arena);
            seal(out, Class::Control, start, |srtp, arena| srtp.protect_rtcp(arena, start).is_ok());
        }
    }
}

impl Source {
    /// Nothing has been sent.
    fn is_silent(&self) -> bool {
        self.packets == 0
    }

    fn count(&mut self, bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u32::try_from(bytes).unwrap_or(0));
    }
}

impl ViewerStats {
    fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// A first sequence number, which is random (RFC 3550, section 5.1) and far from the first rollover.
fn start(rng: &mut impl Rng) -> u16 {
    rng.random::<u16>() >> 1
}

#[inline]
fn write(out: &mut Out<'_>, class: Class, header: Header, index: u64, payload: &[&[u8]]) {
    let start = out.batch.arena.len();
    header.write(&mut out.batch.arena);
    for part in payload {
        out.batch.arena.extend_from_slice(part);
    }
    seal(out, class, start, |srtp, arena| {
        srtp.protect_rtp(arena, start, header.len(), header.ssrc, index).is_ok()
    });
}

/// Commits the packet when `protect` could seal it, and forgets it otherwise: nothing leaves unprotected.
fn seal(
    out: &mut Out<'_>,
    class: Class,
    start: usize,
    protect: impl FnOnce(&mut Srtp, &mut Vec<u8>) -> bool,
) {
    if protect(out.srtp, &mut out.batch.arena) {
        out.batch.commit(start, out.path, class);
    } else {
        out.batch.arena.truncate(start);
        tracing::warn!("a packet could not be sealed and was not sent");
    }
}

#[cfg(test)]
mod tests;
