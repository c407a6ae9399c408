//! One viewer: ICE, then DTLS, then media. No socket and no clock inside.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::arrivals::Arrivals;
use super::dtls::{Dtls, DtlsError, Identity};
use super::ice::{self, Agent, Credentials};
use super::media::{Media, Moment};
use super::misbehaviour::{Misbehaviour, Mischief};
use super::person::Showing;
use super::rtcp::{self, Told};
use super::rtp;
use super::srtp::Session;
use super::totals::Totals;

/// RFC 3550, section 6.2: a report now and then, as browsers do about every second, from 0.75 to 1.25 of it.
const REPORT_INTERVAL_MS: u64 = 1000;
/// How long the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a viewer begins with.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) post_began: Instant,
    pub(super) local: Credentials,
    pub(super) answer: Answer,
    pub(super) server: SocketAddr,
    pub(super) decrypts: bool,
    pub(super) misbehaviour: Option<Misbehaviour>,
    /// Who watches, if that is more than this session.
    pub(super) showing: Option<Arc<Showing>>,
}

/// Where a viewer's deeds go: datagrams and figures.
#[derive(Debug)]
pub(super) struct Effects<'a> {
    pub(super) out: &'a mut Vec<Vec<u8>>,
    pub(super) totals: &'a mut Totals,
}

#[derive(Debug)]
enum Phase {
    Checking,
    Handshaking { since: Instant },
    Watching,
    Over,
}

#[derive(Debug)]
pub(super) struct Viewer {
    beginning: Beginning,
    phase: Phase,
    agent: Agent,
    dtls: Option<Dtls>,
    session: Option<Session>,
    pub(super) media: Media,
    arrivals: Option<Arrivals>,
    ssrc: u32,
    report_due: Instant,
    mischief: Option<Mischief>,
}

impl Viewer {
    pub(super) fn new(now: Instant, beginning: Beginning) -> Self {
        let remote = beginning.answer.credentials.clone();
        let mut media = Media::new(now, beginning.post_began, &beginning.answer, beginning.decrypts);
        media.showing.clone_from(&beginning.showing);
        Self {
            phase: Phase::Checking,
            agent: Agent::new(now, beginning.local.clone(), remote),
            dtls: None,
            session: None,
            media,
            arrivals: beginning.answer.transport_cc_id.map(|id| Arrivals::new(now, id)),
            ssrc: rand::random(),
            report_due: now,
            mischief: None,
            beginning,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(super) fn is_watching(&self) -> bool {
        matches!(self.phase, Phase::Watching)
    }

    /// Whether datagrams are still taken from the socket.
    pub(super) fn reads(&self) -> bool {
        !(self.is_watching() && self.beginning.misbehaviour == Some(Misbehaviour::StopReading))
    }

    /// RFC 7983, section 7: the first byte says what a datagram is.
    pub(super) fn on_datagram(
        &mut self,
        at: Moment,
        datagram: &mut [u8],
        identity: &Identity,
        effects: &mut Effects<'_>,
    ) {
        match datagram.first() {
            _ if self.is_over() => {}
            Some(0..=3) => self.on_stun(at.now, datagram, identity, effects),
            Some(20..=63) => {
                let Some(dtls) = &mut self.dtls else { return };
                let keys = dtls.on_datagram(at.now, datagram, effects.out);
                self.on_keys(at.now, keys, effects.totals);
            }
            Some(128..=191) if rtp::is_rtcp(datagram) => self.on_rtcp(at.now, datagram, effects),
            Some(128..=191) => {
                let Some(session) = &self.session else { return };
                if let Some(arrivals) = &mut self.arrivals {
                    arrivals.on_packet(at.came, datagram);
                }
                self.media.on_packet(at, datagram, &self.beginning.answer, session, effects.totals);
            }
            _ => effects.totals.unknown += 1,
        }
    }

    /// Does what is due.
    pub(super) fn on_timeout(&mut self, at: Moment, effects: &mut Effects<'_>) {
        let now = at.now;
        if !self.reads() {
            self.agent.renew(now);
        }
        match self.agent.on_timeout(now) {
            _ if self.is_over() => return,
            ice::Due::Nothing => {}
            ice::Due::Send(check) => effects.out.push(check),
            ice::Due::Expired => {
                let is_new = matches!(self.phase, Phase::Checking);
                let reason = if is_new { "no answer to ICE checks" } else { "consent expired" };
                return self.end(reason, effects.totals);
            }
        }
        if let Some(dtls) = self.dtls.as_mut().filter(|dtls| dtls.deadline <= now) {
            let keys = dtls.on_timeout(now, effects.out);
            self.on_keys(now, keys, effects.totals);
        }
        match self.phase {
            Phase::Handshaking { since } if now.saturating_duration_since(since) > HANDSHAKE_TIMEOUT => {
                self.end("the DTLS handshake took too long", effects.totals);
            }
            Phase::Watching => self.on_media_timeout(at, effects),
            _ => {}
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let mut deadline = self.agent.deadline;
        if let Some(dtls) = &self.dtls {
            deadline = deadline.min(dtls.deadline);
        }
        match self.phase {
            Phase::Checking | Phase::Over => deadline,
            Phase::Handshaking { since } => deadline.min(since + HANDSHAKE_TIMEOUT),
            Phase::Watching => {
                let media = self.media.deadline();
                let mischief = self.mischief.as_ref().map(|mischief| mischief.due);
                let arrivals = self.arrivals.as_ref().and_then(|arrivals| arrivals.due);
                [media, mischief, arrivals, Some(self.report_due)]
                    .into_iter()
                    .flatten()
                    .fold(deadline, Instant::min)
            }
        }
    }

    /// Writes down what was measured, of a viewer that got as far as media.
    pub(super) fn finish(&mut self, now: Instant, totals: &mut Totals) {
        if self.session.take().is_some() {
            self.media.finish(now, totals);
        }
    }

    /// Leaves on purpose.
    pub(super) fn leave(&mut self, now: Instant, effects: &mut Effects<'_>) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now, effects.out);
        }
        if !self.is_watching() && !self.is_over() {
            effects.totals.ended.add("the run ended before the connection was up");
        }
        self.phase = Phase::Over;
    }

    fn on_stun(&mut self, now: Instant, datagram: &[u8], identity: &Identity, effects: &mut Effects<'_>) {
        for event in self.agent.on_message(now, self.beginning.server, datagram) {
            match event {
                ice::Event::Respond(response) => effects.out.push(response),
                ice::Event::RoundTrip(time) => effects.totals.round_trip_ms.record_time(time),
                ice::Event::Connected => {
                    let took = now.saturating_duration_since(self.beginning.post_began);
                    effects.totals.post_to_ice_ms.record_time(took);
                    self.phase = Phase::Handshaking { since: now };
                    let answer = &self.beginning.answer;
                    // RFC 8842: an answer that is passive leaves the first word to us.
                    match Dtls::new(now, identity, answer.fingerprint, answer.is_passive) {
                        Ok(mut dtls) => {
                            let keys = dtls.on_timeout(now, effects.out);
                            self.dtls = Some(dtls);
                            self.on_keys(now, keys, effects.totals);
                        }
                        Err(error) => self.end(&error.to_string(), effects.totals),
                    }
                }
            }
        }
    }

    fn on_keys(
        &mut self,
        now: Instant,
        keys: Result<Option<super::dtls::Keys>, DtlsError>,
        totals: &mut Totals,
    ) {
        match keys {
            Ok(None) => {}
            Ok(Some(keys)) => {
                totals.post_to_dtls_ms.record_time(now.saturating_duration_since(self.beginning.post_began));
                totals.profiles.add(keys.profile);
                totals.connected += 1;
                self.session = Some(keys.session);
                self.phase = Phase::Watching;
                self.mischief = self.beginning.misbehaviour.map(|kind| Mischief::new(now, kind));
                self.report_due = now + Duration::from_millis(rand::random_range(0..REPORT_INTERVAL_MS));
            }
            Err(error) => self.end(&error.to_string(), totals),
        }
    }

    fn on_rtcp(&mut self, now: Instant, datagram: &mut [u8], effects: &mut Effects<'_>) {
        let Some(session) = &self.session else { return };
        let Some(compound) = session.open_rtcp(datagram) else {
            effects.totals.undecryptable += 1;
            return;
        };
        // A goodbye is of one source only; the session's end is told by DTLS.
        for told in rtcp::read(compound) {
            if let Told::SenderReport { ssrc, ntp_middle } = told {
                self.media.on_sender_report(now, ssrc, ntp_middle);
            }
        }
    }

    fn on_media_timeout(&mut self, at: Moment, effects: &mut Effects<'_>) {
        let now = at.now;
        if let Some((media, mut sequences)) = self.media.on_timeout(at, effects.totals) {
            // In the order of the stream: the oldest may be before the numbers begin anew.
            let newest = self.media.newest().map_or(0, |(_, number)| super::reception::low16(number));
            sequences.sort_by_key(|sequence| std::cmp::Reverse(newest.wrapping_sub(*sequence)));
            let mut compound = rtcp::report(self.ssrc, &[]);
            rtcp::nack(&mut compound, self.ssrc, media, &sequences);
            self.send_rtcp(compound, effects);
        }
        if let Some(media) = self.media.wants_keyframe(now) {
            effects.totals.picture_requests += 1;
            let mut compound = rtcp::report(self.ssrc, &[]);
            rtcp::picture_loss(&mut compound, self.ssrc, media);
            self.send_rtcp(compound, effects);
        }
        if now >= self.report_due {
            let wait = REPORT_INTERVAL_MS * rand::random_range(75..=125) / 100;
            self.report_due = now + Duration::from_millis(wait);
            effects.totals.reports += 1;
            let compound = rtcp::report(self.ssrc, &self.media.blocks(now));
            self.send_rtcp(compound, effects);
        }
        if let Some(arrivals) =
            self.arrivals.as_mut().filter(|arrivals| arrivals.due.is_some_and(|due| due <= now))
        {
            for report in arrivals.reports(self.ssrc) {
                effects.totals.arrival_reports += 1;
                self.send_rtcp([rtcp::report(self.ssrc, &[]), report].concat(), effects);
            }
        }
        if let Some(mischief) = self.mischief.as_mut().filter(|mischief| mischief.due <= now) {
            let compounds = mischief.act(now, self.ssrc, self.media.newest(), effects.out);
            for compound in compounds {
                self.send_rtcp(compound, effects);
            }
        }
    }

    fn send_rtcp(&mut self, mut compound: Vec<u8>, effects: &mut Effects<'_>) {
        if self.session.as_mut().and_then(|session| session.seal_rtcp(&mut compound)).is_some() {
            effects.out.push(compound);
        }
    }

    fn end(&mut self, reason: &str, totals: &mut Totals) {
        totals.ended.add(reason);
        self.phase = Phase::Over;
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use dimpl::SrtpProfile;

    use super::*;

    const ANSWER: &str = "m=video 9 UDP/TLS/RTP/SAVPF 108 109\na=ice-ufrag:0abc\na=ice-pwd:0123456789012345678901\n\
        a=fingerprint:sha-256 4E:AD:1F:0D:53:C3:6B:2F:1D:3B:9E:7C:5A:00:12:34:56:78:9A:BC:DE:F0:11:22:33:44:55:66:77:88:99:AA\n\
        a=candidate:1 1 udp 9 192.0.2.1 8189 typ host\na=rtpmap:108 H264/90000\na=rtpmap:109 rtx/90000\na=rtcp-fb:108 nack\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\na=rtpmap:111 opus/48000/2\n";

    fn viewer(now: Instant, decrypts: bool) -> Viewer {
        let answer = Answer::parse(ANSWER).unwrap();
        let beginning = Beginning {
            showing: None,
            post_began: now,
            local: Credentials::generate(),
            server: answer.candidate(None).unwrap(),
            answer,
            decrypts,
            misbehaviour: None,
        };
        Viewer::new(now, beginning)
    }

    #[test]
    fn nothing_that_a_server_sends_does_harm() {
        let identity = Identity::generate(false).unwrap();
        let start = Instant::now();
        for is_connected in [false, true] {
            let mut viewer = viewer(start, false);
            if is_connected {
                viewer.session = Session::new(SrtpProfile::AEAD_AES_128_GCM, &[7; 56], true);
                viewer.dtls = Some(Dtls::new(start, &identity, [0; 32], true).unwrap());
                viewer.phase = Phase::Watching;
            }
            let (mut out, mut totals) = (Vec::new(), Totals::default());
            for n in 0..30_000_u64 {
                let at = Moment {
                    now: start + Duration::from_micros(100 * n),
                    wall: SystemTime::now(),
                    came: start + Duration::from_micros(100 * n),
                };
                let mut bytes = vec![0; rand::random_range(0..200)];
                rand::fill(&mut bytes[..]);
                // Every kind, and payload types that mean something.
                let kinds: [(u8, u8); 5] = [(0, 1), (22, 254), (0x80, 108), (0x80, 109), (0x90, 111)];
                let (first, second) = kinds[usize::try_from(n % 5).unwrap()];
                bytes.iter_mut().zip([first, second]).for_each(|(byte, kind)| *byte = kind);
                let mut effects = Effects { out: &mut out, totals: &mut totals };
                viewer.on_datagram(at, &mut bytes, &identity, &mut effects);
                viewer.on_timeout(at, &mut effects);
                out.clear();
            }
            assert_eq!(totals.packets > 0, is_connected);
            viewer.finish(start + Duration::from_secs(9), &mut totals);
        }
    }

    #[test]
    fn whatever_a_picture_is_made_of_it_is_counted_without_harm() {
        let start = Instant::now();
        let mut media = viewer(start, true).media;
        let mut totals = Totals::default();
        for n in 0..30_000_u32 {
            let at = Moment {
                now: start + Duration::from_micros(u64::from(n) * 100),
                wall: SystemTime::now(),
                came: start + Duration::from_micros(u64::from(n) * 100),
            };
            let mut payload = vec![0; rand::random_range(0..60)];
            rand::fill(&mut payload[..]);
            let header = rtp::Header {
                marker: rand::random_ratio(1, 8),
                payload_type: 108,
                sequence: if n % 100 == 0 {
                    rand::random()
                } else {
                    super::super::reception::low16(n.into())
                },
                timestamp: n / 8 * 3000,
                ssrc: n / 10_000,
                has_padding: false,
                len: 12,
            };
            media.on_plain_video(at, &header, &payload, &mut totals);
            media.on_plain_audio(at, &header, &payload, &mut totals);
            media.on_timeout(at, &mut totals);
        }
        assert!(totals.units_damaged > 0 && totals.sounds_malformed > 0);
        media.finish(start + Duration::from_secs(4), &mut totals);
    }
}
