//! The media of one viewer: what has come, what is missing, how smooth it is.
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::answer::{Answer, Payload};
use super::person::Showing;
use super::pictures::{Finished, Pictures, Piece};
use super::playback::Playback;
use super::reception::{Arrival, Counts, Reception};
use super::rtcp::Block;
use super::rtp::Header;
use super::smoothness::Smoothness;
use super::srtp::Session;
use super::stream::{Stream, count_sound, stream};
use super::totals::Totals;

/// RFC 6184, section 8.2.1, and RFC 7587, section 4.1.
const VIDEO_CLOCK_HZ: u32 = 90_000;
const AUDIO_CLOCK_HZ: u32 = 48_000;
/// Damage up to here after the first packet is part of a join.
const JOIN: Duration = Duration::from_secs(1);
/// Pictures up to here after the first are counted apart: servers begin with a burst of what was live before.
const START: Duration = Duration::from_secs(2);

/// A moment on both clocks: one to wait by, one to compare with the publisher's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    /// When what is looked at came: a thread with thousands of viewers looks at it later.
    pub(super) came: Instant,
}

impl Moment {
    pub(super) fn read() -> Self {
        let now = Instant::now();
        Self { now, wall: SystemTime::now(), came: now }
    }
}

#[derive(Debug)]
pub(super) struct Media {
    post_began: Instant,
    pub(super) showing: Option<Arc<Showing>>,
    video: Option<Stream>,
    again: Option<Stream>,
    audio: Option<Stream>,
    /// Of streams that were replaced by one with another source.
    replaced: (Counts, Counts),
    asks: bool,
    has_video: bool,
    /// Present in viewers that decrypt.
    pictures: Option<Pictures>,
    playback: Playback,
    finished: Vec<Finished>,
    /// When the first packet came.
    first_packet: Option<Instant>,
    /// When the first whole picture came.
    first_unit: Option<Instant>,
    has_keyframe: bool,
    smoothness: Smoothness,
}

impl Media {
    pub(super) fn new(now: Instant, post_began: Instant, answer: &Answer, decrypts: bool) -> Self {
        Self {
            post_began,
            showing: None,
            video: None,
            again: None,
            audio: None,
            replaced: Default::default(),
            asks: answer.video_nack,
            has_video: answer.has_video,
            pictures: decrypts.then(Pictures::default),
            playback: Playback::new(now),
            finished: Vec::new(),
            first_packet: None,
            first_unit: None,
            has_keyframe: false,
            smoothness: Smoothness::default(),
        }
    }

    /// Takes a protected RTP packet.
    pub(super) fn on_packet(
        &mut self,
        at: Moment,
        packet: &mut [u8],
        answer: &Answer,
        session: &Session,
        totals: &mut Totals,
    ) {
        let Some(header) = Header::parse(packet) else {
            totals.unknown += 1;
            return;
        };
        self.on_bytes(at, packet.len(), totals);
        match answer.payload(header.payload_type) {
            Payload::Video => self.on_video(at, packet, &header, session, totals),
            Payload::VideoAgain => self.on_again(at, packet, &header, session, totals),
            Payload::Audio => self.on_audio(at, packet, &header, session, totals),
            Payload::Unknown => totals.unknown += 1,
        }
    }

    /// A packet of video that somebody else decrypted.
    pub(super) fn on_plain_video(
        &mut self,
        at: Moment,
        header: &Header,
        payload: &[u8],
        totals: &mut Totals,
    ) {
        self.on_bytes(at, payload.len(), totals);
        let reception = &mut self.video(header).reception;
        let number = reception.extend(header.sequence);
        let arrival = reception.on_packet(at.now, number);
        if arrival != Arrival::Duplicate {
            self.on_piece(at, number, arrival, header, payload.to_vec(), totals);
        }
    }

    /// A packet of sound that somebody else decrypted.
    pub(super) fn on_plain_audio(
        &mut self,
        at: Moment,
        header: &Header,
        payload: &[u8],
        totals: &mut Totals,
    ) {
        self.on_bytes(at, payload.len(), totals);
        let reception = &mut self.audio(header).reception;
        let number = reception.extend(header.sequence);
        if reception.on_packet(at.now, number) != Arrival::Duplicate {
            count_sound(payload, totals);
        }
    }

    fn on_bytes(&mut self, at: Moment, len: usize, totals: &mut Totals) {
        totals.packets += 1;
        totals.bytes += len as u64;
        if self.first_packet.is_none() {
            self.first_packet = Some(at.now);
            totals.post_to_first_packet_ms.record_time(at.now.saturating_duration_since(self.post_began));
        }
    }

    fn on_video(
        &mut self,
        at: Moment,
        packet: &mut [u8],
        header: &Header,
        session: &Session,
        totals: &mut Totals,
    ) {
        let decrypts = self.pictures.is_some();
        let reception = &mut self.video(header).reception;
        let number = reception.extend(header.sequence);
        let mut payload = Vec::new();
        if decrypts {
            let index = Reception::srtp_index(number);
            let opened = session.open_rtp(packet, header.len, header.ssrc, index);
            let Some(plain) = opened.and_then(|plain| header.unpad(plain)) else {
                totals.undecryptable += 1;
                return;
            };
            payload = plain.to_vec();
        }
        let arrival = reception.on_packet(at.now, number);
        if matches!(arrival, Arrival::New | Arrival::Restart) {
            reception.on_timing(at.now, header.timestamp);
        }
        if arrival != Arrival::Duplicate {
            self.on_piece(at, number, arrival, header, payload, totals);
        }
    }

    /// RFC 4588, section 4: the original number, then the original payload. Every viewer opens these: without the
    /// number nobody knows what was healed.
    fn on_again(
        &mut self,
        at: Moment,
        packet: &mut [u8],
        header: &Header,
        session: &Session,
        totals: &mut Totals,
    ) {
        let again = stream(&mut self.again, header, VIDEO_CLOCK_HZ, false, &mut Counts::default());
        let number = again.reception.extend(header.sequence);
        let index = Reception::srtp_index(number);
        let opened = session.open_rtp(packet, header.len, header.ssrc, index);
        let Some(plain) = opened.and_then(|plain| header.unpad(plain)) else {
            totals.undecryptable += 1;
            return;
        };
        again.reception.on_packet(at.now, number);
        // Without a number it is padding, as bandwidth probes send.
        let Some((original, payload)) = plain.split_first_chunk::<2>() else { return };
        let Some(video) = &mut self.video else { return };
        let original = Header { sequence: u16::from_be_bytes(*original), ssrc: video.ssrc, ..*header };
        let number = video.reception.extend(original.sequence);
        let arrival = video.reception.on_packet_again(at.now, number);
        if arrival != Arrival::Duplicate {
            self.on_piece(at, number, arrival, &original, payload.to_vec(), totals);
        }
    }

    fn on_audio(
        &mut self,
        at: Moment,
        packet: &mut [u8],
        header: &Header,
        session: &Session,
        totals: &mut Totals,
    ) {
        let (decrypts, has_video) = (self.pictures.is_some(), self.has_video);
        let reception = &mut self.audio(header).reception;
        let number = reception.extend(header.sequence);
        if decrypts {
            let index = Reception::srtp_index(number);
            let opened = session.open_rtp(packet, header.len, header.ssrc, index);
            let Some(plain) = opened.and_then(|plain| header.unpad(plain)) else {
                totals.undecryptable += 1;
                return;
            };
            count_sound(plain, totals);
        }
        if matches!(reception.on_packet(at.now, number), Arrival::New | Arrival::Restart) {
            reception.on_timing(at.now, header.timestamp);
        }
        if !has_video {
            self.smoothness.on_picture(at.now, totals);
        }
    }

    fn on_piece(
        &mut self,
        at: Moment,
        number: u64,
        arrival: Arrival,
        header: &Header,
        payload: Vec<u8>,
        totals: &mut Totals,
    ) {
        let Some(pictures) = &mut self.pictures else {
            self.smoothness.on_picture(at.now, totals);
            return;
        };
        let Some(video) = &mut self.video else { return };
        if arrival == Arrival::Restart {
            pictures.restart();
        }
        self.playback.on_packet(at.now);
        let piece = Piece { timestamp: header.timestamp, marker: header.marker, payload };
        pictures.on_packet(number, piece, &mut video.reception, &mut self.finished);
        self.on_finished(at, totals);
    }

    fn on_finished(&mut self, at: Moment, totals: &mut Totals) {
        let since_post = at.now.saturating_duration_since(self.post_began);
        let is_joining =
            self.first_packet.is_none_or(|first| at.now.saturating_duration_since(first) <= JOIN);
        for unit in std::mem::take(&mut self.finished) {
            let is_decodable = self.playback.on_picture(at.now, unit.is_complete, unit.is_keyframe);
            // Before the first keyframe nobody sees anything, so nothing can look damaged.
            totals.unusable_after_join += u64::from(!is_decodable && !is_joining && self.has_keyframe);
            if !unit.is_complete {
                totals.units_damaged += 1;
                continue;
            }
            totals.units_complete += 1;
            if is_decodable {
                self.smoothness.on_picture(at.now, totals);
                if let Some(showing) = &self.showing {
                    showing.on_picture(at.now, unit.stamp_us);
                }
            } else {
                totals.units_undecodable += 1;
            }
            let first_unit = *self.first_unit.get_or_insert_with(|| {
                totals.post_to_first_unit_ms.record_time(since_post);
                at.now
            });
            if unit.is_keyframe {
                totals.keyframes += 1;
                if !std::mem::replace(&mut self.has_keyframe, true) {
                    totals.post_to_first_keyframe_ms.record_time(since_post);
                }
            }
            if let Some(stamp) = unit.stamp_us {
                let sent = SystemTime::UNIX_EPOCH + Duration::from_micros(stamp);
                let is_start = at.now.saturating_duration_since(first_unit) < START;
                match at.wall.duration_since(sent) {
                    Ok(delay) if is_start => totals.delay_at_start_ms.record_time(delay),
                    Ok(delay) => {
                        totals.delay_ms.record_time(delay);
                        if unit.is_keyframe {
                            totals.keyframe_delay_ms.record_time(delay);
                        }
                    }
                    Err(_) => totals.stamps_from_the_future += 1,
                }
            }
        }
    }

    /// Gives up what is too late and says what to ask for: the source of video and the numbers.
    pub(super) fn on_timeout(&mut self, at: Moment, totals: &mut Totals) -> Option<(u32, Vec<u16>)> {
        let mut ask = Vec::new();
        if let Some(audio) = &mut self.audio {
            audio.reception.on_timeout(at.now, &mut ask);
        }
        let video = self.video.as_mut()?;
        video.reception.on_timeout(at.now, &mut ask);
        if let Some(pictures) = &mut self.pictures {
            pictures.advance(&video.reception, &mut self.finished);
        }
        let ssrc = video.ssrc;
        self.on_finished(at, totals);
        (!ask.is_empty()).then_some((ssrc, ask))
    }

    /// Whether a keyframe must be asked for, and of which source.
    pub(super) fn wants_keyframe(&mut self, now: Instant) -> Option<u32> {
        // Without a packet there is no source to name; RFC 4585 has no word for "any".
        let ssrc = self.video.as_ref().filter(|_| self.pictures.is_some())?.ssrc;
        self.playback.wants_keyframe(now).then_some(ssrc)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let of = |stream: &Option<Stream>| stream.as_ref().and_then(|stream| stream.reception.deadline());
        let is_played = self.pictures.is_some() && self.video.is_some();
        let keyframe = is_played.then(|| self.playback.deadline());
        [of(&self.video), of(&self.audio), keyframe].into_iter().flatten().min()
    }

    /// The newest packet of video: source and number.
    pub(super) fn newest(&self) -> Option<(u32, u64)> {
        self.video.as_ref().map(|video| (video.ssrc, video.reception.highest()))
    }

    pub(super) fn on_sender_report(&mut self, now: Instant, ssrc: u32, ntp_middle: u32) {
        for stream in [&mut self.video, &mut self.audio].into_iter().flatten() {
            if stream.ssrc == ssrc {
                stream.sender_report = Some((now, ntp_middle));
            }
        }
    }

    /// The blocks of a receiver's report.
    pub(super) fn blocks(&mut self, now: Instant) -> Vec<Block> {
        let streams = [&mut self.video, &mut self.audio].into_iter().flatten();
        streams.map(|stream| stream.block(now)).collect()
    }

    pub(super) fn lost(&self) -> u64 {
        let of = |stream: &Option<Stream>| stream.as_ref().map_or(0, |stream| stream.reception.counts.lost);
        of(&self.video) + of(&self.audio) + self.replaced.0.lost + self.replaced.1.lost
    }

    /// Begins to watch for gaps and losses of its own, or ends it and writes them down.
    pub(super) fn set_window(&mut self, now: Instant, is_open: bool, totals: &mut Totals) {
        self.smoothness.set_window(now, is_open, self.lost(), totals);
    }

    /// Writes down what is known at the end.
    pub(super) fn finish(&mut self, now: Instant, totals: &mut Totals) {
        self.smoothness.finish(now, self.lost(), totals);
        totals.with_media += u64::from(self.first_packet.is_some());
        totals.decrypting += u64::from(self.pictures.is_some());
        let mut lost = self.lost();
        let (mut video, mut audio) = self.replaced;
        for (stream, counts) in [(&mut self.video, &mut video), (&mut self.audio, &mut audio)] {
            let Some(stream) = stream else { continue };
            let open = stream.reception.open(now);
            stream.reception.counts.lost += open;
            lost += open;
            counts.add(&stream.reception.counts);
        }
        if let Some(video) = &self.video {
            totals.jitter_ms.record_time(video.reception.jitter());
        }
        totals.video.add(&video);
        totals.audio.add(&audio);
        totals.lost_per_viewer.record(lost);
        totals.lossy_viewers += u64::from(lost > 0);
    }

    fn video(&mut self, header: &Header) -> &mut Stream {
        stream(&mut self.video, header, VIDEO_CLOCK_HZ, self.asks, &mut self.replaced.0)
    }

    fn audio(&mut self, header: &Header) -> &mut Stream {
        stream(&mut self.audio, header, AUDIO_CLOCK_HZ, false, &mut self.replaced.1)
    }
}
