//! One viewer's media: keyframe gate, join burst, pacing, retransmission and reports.
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::MediaTime;
use rtp::rtcp::{Lost, SenderReport};
use rtp::{Header, Packets, PlayoutDelay};

use crate::batch::{Batch, Class, Path};
use crate::ring::Ring;
use crate::sdp::{AudioTerms, Terms, VideoTerms};
use crate::sequence::{Numbered, Sequence, low16, low32};
use crate::srtp::Srtp;

/// Bytes of a group of pictures that are sent to a viewer that joins. A larger group gives its keyframe alone: a still
/// picture at once, motion at the next keyframe.
const BURST_BYTES_MAX: usize = 8 << 20;
/// Frames that a viewer may be behind when the next keyframe is there: then it goes on at the keyframe.
const LAG_FRAMES_MAX: u64 = 15;
/// Packets of video that one viewer gets in one pass, so that a keyframe to many does not hold up anybody's sound.
const PASS_PACKETS: usize = 16;
/// The shortest time between two passes of one viewer: 16 packets a millisecond are 150 Mbit/s.
const PASS_INTERVAL: Duration = Duration::from_millis(1);
/// A burst is never slower than this, however slow its stream: any network that can carry a lesson carries it.
const BURST_BPS_MIN: u64 = 20_000_000;
/// A keyframe request is answered at most this often; frames in flight are often answer enough.
const REPLAY_INTERVAL: Duration = Duration::from_millis(1000);
/// Packets that are sent again for one viewer in one second at most: more than a 12 Mbit/s stream has.
const RESENDS_PER_SECOND: u32 = 1500;
/// A packet that has just been sent again is not sent once more: its copy and the second request crossed.
const RESEND_INTERVAL: Duration = Duration::from_millis(10);
/// Places in which packets sent again are remembered for that, each found by its sequence number: a request may name
/// thousands.
const RECENT_LEN: usize = 256;
/// When many viewers of a stream ask within this time, they probably share an access point that had no room for a moment.
const CROWD_WINDOW: Duration = Duration::from_millis(20);
/// So many are many.
const CROWD_MIN: u32 = 8;
/// Then answers are spread over this time, so that they find the room that the packets themselves did not.
const CROWD_SPREAD: Duration = Duration::from_millis(10);
/// Packets of one viewer that wait for that; more are answered when they are asked for again.
const CROWD_WAITING_MAX: usize = 128;
/// How often a viewer gets sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The clock of Opus in RTP (RFC 7587, section 4.1).
const AUDIO_CLOCK_HZ: u32 = 48_000;
/// How far sound may come behind its picture. Players hold the picture back until its sound is there, which takes this
/// much longer: an AAC frame must be full, encoders write sound in lumps of a picture's length, and a player buffers
/// them. Nobody notices 125 ms (ITU-R BT.1359-1), and broadcasters allow themselves 60 (EBU R37).
const SOUND_BEHIND: MediaTime = MediaTime::from_millis(45);
/// The longest step between two packets of sound that is not a silence.
const AUDIO_STEP_MAX: MediaTime = MediaTime::from_millis(20);

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
    pub(crate) stats: ViewerStats,
}

#[derive(Debug)]
struct Video {
    terms: VideoTerms,
    playout_delay: Option<PlayoutDelay>,
    sequence: Sequence,
    cursor: Cursor,
    /// The keyframe that is sent alone, because its group is too large for a burst.
    still: Option<u64>,
    next_pass: Instant,
    /// How many times faster than its stream a burst may be.
    burst_multiple: u32,
    next_replay: Instant,
    resend: Resend,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// Nothing may be sent before a keyframe with at least this number.
    Keyframe { from: u64 },
    /// Next is this packet of this frame.
    At { frame: u64, packet: usize },
}

#[derive(Debug)]
struct Audio {
    terms: AudioTerms,
    next: u64,
    offset: u32,
    latest: Option<MediaTime>,
    source: Source,
}

/// Who of one stream has asked for lost packets lately.
#[derive(Debug)]
pub(crate) struct Crowd {
    since: Instant,
    viewers: u32,
}

impl Crowd {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, viewers: 0 }
    }

    /// One more viewer asks. Returns how long its answer is to wait.
    fn on_nack(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.since) >= CROWD_WINDOW {
            *self = Self::new(now);
        }
        self.viewers = self.viewers.saturating_add(1);
        if self.viewers <= CROWD_MIN { Duration::ZERO } else { CROWD_SPREAD.mul_f64(rand::random()) }
    }
}

/// What sender reports count (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    packets: u32,
    bytes: u32,
    lost: u32,
}

/// The budget of retransmissions and their own numbering (RFC 4588).
#[derive(Debug)]
struct Resend {
    next: u64,
    window: Instant,
    count: u32,
    /// Sequence numbers that were sent again, and when; empty until something is.
    recent: Vec<(u16, Instant)>,
    /// What is sent again at `due`.
    waiting: Vec<u16>,
    due: Option<Instant>,
}

impl Viewer {
    pub(crate) fn new(now: Instant, terms: &Terms, burst_multiple: u32) -> Self {
        let start = || rand::random::<u16>() >> 1;
        let video = terms.video.clone().map(|terms| Video {
            playout_delay: terms.playout_delay_id.and_then(PlayoutDelay::new),
            terms,
            sequence: Sequence::new(start(), rand::random()),
            cursor: Cursor::Keyframe { from: 0 },
            still: None,
            next_pass: now,
            burst_multiple,
            next_replay: now,
            resend: Resend {
                next: u64::from(start()),
                window: now,
                count: 0,
                recent: Vec::new(),
                waiting: Vec::new(),
                due: None,
            },
            source: Source::default(),
        });
        let audio = terms.audio.clone().map(|terms| Audio {
            terms,
            next: u64::from(start()),
            offset: rand::random(),
            latest: None,
            source: Source::default(),
        });
        Self { video, audio, next_report: now, stats: ViewerStats::default() }
    }

    /// Sends one packet of sound. Sound is never queued: whoever cannot take it now has lost it.
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
        };
        let Some(payload) = frame.payload(0) else { return };
        write(out, Class::Audio, header, numbered.index, &[payload]);
        audio.source.count(payload.len());
        self.stats.count(payload.len());
    }

    /// Sends what video is due, a pass at most. Returns when the next pass may be, if there is more to send.
    pub(crate) fn send_video(&mut self, now: Instant, ring: &Ring, out: &mut Out<'_>) -> Option<Instant> {
        let video = self.video.as_mut()?;
        if now < video.next_pass {
            return video.has_more(ring).then_some(video.next_pass);
        }
        let mut budget = PASS_PACKETS;
        let mut bytes = 0;
        while budget > 0 {
            let (frame, packet) = video.next_packet(ring, &mut self.stats)?;
            let payload = frame.payload(packet)?;
            let numbered = video.sequence.number(frame);
            let header = video.header(numbered, frame.is_last(packet));
            write(out, Class::Video, header, numbered.index, &[payload]);
            video.source.count(payload.len());
            self.stats.count(payload.len());
            video.advance(frame, packet);
            bytes += payload.len() as u64;
            budget -= 1;
        }
        let burst_bps = (ring.rate_bps() * u64::from(video.burst_multiple)).max(BURST_BPS_MIN);
        video.next_pass = now + PASS_INTERVAL.max(Duration::from_micros(bytes * 8_000_000 / burst_bps));
        video.has_more(ring).then_some(video.next_pass)
    }

    /// Answers a NACK from the stream's ring: retransmissions on their own source where negotiated (RFC 4588), else
    /// the very same packet.
    pub(crate) fn on_nack(
        &mut self,
        now: Instant,
        ssrc: u32,
        lost: Lost<'_>,
        ring: &Ring,
        crowd: &mut Crowd,
        out: &mut Out<'_>,
    ) {
        let Some(video) = self.video.as_mut().filter(|video| video.terms.ssrc == ssrc && video.terms.nack)
        else {
            return;
        };
        let wait = crowd.on_nack(now);
        if wait.is_zero() {
            self.resend(now, lost.sequences(), ring, out);
            return;
        }
        let room = CROWD_WAITING_MAX.saturating_sub(video.resend.waiting.len());
        video.resend.waiting.extend(lost.sequences().take(room));
        video.resend.due.get_or_insert(now + wait);
    }

    /// When answers that wait are due.
    pub(crate) fn next_resend(&self) -> Option<Instant> {
        self.video.as_ref()?.resend.due
    }

    /// Sends again what has waited for this moment.
    pub(crate) fn resend_waiting(&mut self, now: Instant, ring: &Ring, out: &mut Out<'_>) {
        let Some(resend) = self.video.as_mut().map(|video| &mut video.resend) else { return };
        if resend.due.is_none_or(|due| now < due) {
            return;
        }
        resend.due = None;
        let waiting = std::mem::take(&mut resend.waiting);
        self.resend(now, waiting.into_iter(), ring, out);
    }

    fn resend(&mut self, now: Instant, sequences: impl Iterator<Item = u16>, ring: &Ring, out: &mut Out<'_>) {
        let Some(video) = &mut self.video else { return };
        for sequence in sequences {
            let Some((source, index)) = video.sequence.find(sequence) else { continue };
            let Some((frame, packet)) = ring.packet(source) else { continue };
            let Some(payload) = frame.payload(packet) else { continue };
            if video.resend.is_repeat(now, sequence) {
                continue;
            }
            if !video.resend.allows(now) {
                self.stats.resends_refused += 1;
                continue;
            }
            video.resend.remember(now, sequence);
            let numbered = video.sequence.renumber(index, frame);
            let header = video.header(numbered, frame.is_last(packet));
            match &video.terms.rtx {
                None => write(out, Class::Video, header, index, &[payload]),
                Some(rtx) => {
                    let index = video.resend.next;
                    video.resend.next += 1;
                    let header =
                        Header { payload_type: rtx.pt, ssrc: rtx.ssrc, sequence: low16(index), ..header };
                    write(out, Class::Video, header, index, &[&sequence.to_be_bytes(), payload]);
                }
            }
            self.stats.resent += 1;
            self.stats.count(payload.len());
        }
    }

    /// Answers a keyframe request with the group of pictures once more: the phone cannot be asked for a keyframe.
    /// Returns whether there is now something to send.
    pub(crate) fn on_keyframe_request(&mut self, now: Instant, ring: &Ring) -> bool {
        self.stats.keyframe_requests += 1;
        let Some(video) = &mut self.video else { return false };
        if now < video.next_replay || video.has_more(ring) {
            return false;
        }
        video.start(now, ring);
        video.has_more(ring)
    }

    /// The report blocks' loss counts end up in the viewer's statistics. Returns whether this one is about the picture.
    pub(crate) fn on_report(&mut self, ssrc: u32, lost: u32) -> bool {
        let is_video = self.video.as_ref().is_some_and(|video| video.terms.ssrc == ssrc);
        let video =
            self.video.as_mut().filter(|video| video.terms.ssrc == ssrc).map(|video| &mut video.source);
        let audio =
            self.audio.as_mut().filter(|audio| audio.terms.ssrc == ssrc).map(|audio| &mut audio.source);
        // The count has 24 bits and is signed: duplicates can make it negative (RFC 3550, section 6.4.1).
        let lost = if lost >= 1 << 23 { 0 } else { lost };
        if let Some(source) = video.or(audio) {
            self.stats.lost = self.stats.lost - u64::from(source.lost) + u64::from(lost);
            source.lost = lost;
        }
        is_video
    }

    /// When the next sender reports are due.
    pub(crate) fn next_report(&self) -> Instant {
        self.next_report
    }

    /// Sends a report for each track. `time` is the media time of this very moment and `ntp` the wall clock's.
    pub(crate) fn send_reports(
        &mut self,
        now: Instant,
        time: MediaTime,
        ntp: u64,
        cname: &str,
        out: &mut Out<'_>,
    ) {
        self.next_report = now + REPORT_INTERVAL;
        let video = self
            .video
            .as_ref()
            .map(|video| (video.terms.ssrc, video.sequence.timestamp_at(time), video.source));
        let sound_time = time - SOUND_BEHIND;
        let audio = self.audio.as_ref().map(|audio| {
            let rtp = low32(sound_time.ticks(AUDIO_CLOCK_HZ)).wrapping_add(audio.offset);
            (audio.terms.ssrc, rtp, audio.source)
        });
        for (ssrc, rtp, source) in video.into_iter().chain(audio) {
            let start = out.batch.arena.len();
            let report = SenderReport { ssrc, ntp, rtp, packets: source.packets, bytes: source.bytes };
            report.write(cname, &mut out.batch.arena);
            seal(out, Class::Control, start, |srtp, arena| srtp.protect_rtcp(arena, start).is_ok());
        }
    }
}

impl Video {
    /// The packet at the cursor, if the stream has it; moves the cursor over what is gone.
    fn next_packet<'r>(
        &mut self,
        ring: &'r Ring,
        stats: &mut ViewerStats,
    ) -> Option<(&'r Arc<Packets>, usize)> {
        loop {
            match self.cursor {
                Cursor::At { frame, packet } => {
                    if packet == 0 && is_overtaken(frame, ring) {
                        stats.skips += 1;
                        self.cursor = Cursor::Keyframe { from: frame };
                        continue;
                    }
                    if let Some(found) = ring.frame(frame) {
                        return Some((found, packet));
                    }
                    if ring.newest().is_none_or(|newest| newest.number < frame) {
                        return None;
                    }
                    // The frame was dropped before it got here, or this viewer was too slow for the ring.
                    stats.skips += 1;
                    self.cursor = Cursor::Keyframe { from: frame };
                }
                Cursor::Keyframe { from } => {
                    let keyframe = ring.keyframe().filter(|keyframe| *keyframe >= from)?;
                    self.begin(ring, keyframe)?;
                }
            }
        }
    }

    fn start(&mut self, now: Instant, ring: &Ring) {
        self.next_replay = now + REPLAY_INTERVAL;
        if let Some(keyframe) = ring.keyframe() {
            let _ = self.begin(ring, keyframe);
        }
    }

    /// Sets out at the keyframe `first`, with everything after it or with a jump to the next keyframe behind it.
    fn begin(&mut self, ring: &Ring, first: u64) -> Option<()> {
        let whole = ring.group_bytes() <= BURST_BYTES_MAX;
        let keyframe = ring.frame(first)?;
        let newest = if whole { ring.newest()? } else { keyframe };
        self.sequence.burst(keyframe.first, first, newest);
        self.still = (!whole).then_some(first);
        self.cursor = Cursor::At { frame: first, packet: 0 };
        Some(())
    }

    fn advance(&mut self, frame: &Packets, packet: usize) {
        self.cursor = if frame.is_last(packet) && self.still == Some(frame.number) {
            Cursor::Keyframe { from: frame.number + 1 }
        } else if frame.is_last(packet) {
            Cursor::At { frame: frame.number + 1, packet: 0 }
        } else {
            Cursor::At { frame: frame.number, packet: packet + 1 }
        };
    }

    fn has_more(&self, ring: &Ring) -> bool {
        match self.cursor {
            Cursor::At { frame, .. } => ring.newest().is_some_and(|newest| newest.number >= frame),
            Cursor::Keyframe { from } => ring.keyframe().is_some_and(|keyframe| keyframe >= from),
        }
    }

    fn header(&self, numbered: Numbered, marker: bool) -> Header {
        Header {
            payload_type: self.terms.pt,
            marker,
            sequence: low16(numbered.index),
            timestamp: numbered.timestamp,
            ssrc: self.terms.ssrc,
            playout_delay: self.playout_delay,
        }
    }
}

impl Resend {
    /// Whether this was sent again just now.
    fn is_repeat(&self, now: Instant, sequence: u16) -> bool {
        let place = self.recent.get(usize::from(sequence) % RECENT_LEN);
        place.is_some_and(|(known, at)| {
            *known == sequence && now.saturating_duration_since(*at) < RESEND_INTERVAL
        })
    }

    /// Remembers that this is sent again now, in the place of an older one.
    fn remember(&mut self, now: Instant, sequence: u16) {
        self.recent.resize(RECENT_LEN, (sequence, now));
        if let Some(place) = self.recent.get_mut(usize::from(sequence) % RECENT_LEN) {
            *place = (sequence, now);
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.count = 0;
        }
        self.count += 1;
        self.count <= RESENDS_PER_SECOND
    }
}

impl Source {
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

/// A newer keyframe is there and the way to it is long.
fn is_overtaken(frame: u64, ring: &Ring) -> bool {
    ring.keyframe().is_some_and(|keyframe| keyframe > frame + LAG_FRAMES_MAX)
}

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
