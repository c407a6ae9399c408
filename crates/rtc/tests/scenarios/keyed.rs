//! A viewer that needs no handshake: its keys are given to the node. It opens media with another SRTP library and writes its
//! own RTCP, as often and as patiently as Chromium does, or not at all.
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc::sdp::{Credentials, Ssrcs};
use rtc::testing::KEYING_LEN;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::screen::{Rtp, Screen};
use crate::wire::{Block, Header, answer_check, arrivals, check, extend, feedback, receiver_report};
use crate::world::{Client, NODE};

pub(crate) const VIDEO_PT: u8 = 102;
pub(crate) const RTX_PT: u8 = 103;
pub(crate) const AUDIO_PT: u8 = 111;
/// As libwebrtc does it: a missing packet is asked for at once, then after each round trip as long as it is not known, ten
/// times, and packets further back than the window are given up.
const NACK_RETRY: Duration = Duration::from_millis(100);
const NACKS_MAX: usize = 10;
const WINDOW: u64 = 10_000;
const CHECK_INTERVAL: Duration = Duration::from_millis(2_500);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What such a viewer can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) nack: bool,
    pub(crate) rtx: bool,
    /// How often it reports arrivals, if it does.
    pub(crate) arrivals: Option<Duration>,
    /// It sends receiver reports and asks for keyframes when it is stuck.
    pub(crate) reports: bool,
    /// It goes on proving that it is there.
    pub(crate) checks: bool,
}

impl Abilities {
    /// Like Chromium's.
    pub(crate) const ALL: Self = Self {
        nack: true,
        rtx: true,
        arrivals: Some(Duration::from_millis(100)),
        reports: true,
        checks: true,
    };
    /// It says nothing but that it is there.
    pub(crate) const NONE: Self =
        Self { nack: false, rtx: false, arrivals: None, reports: false, checks: true };
}

/// What a source has sent.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    highest: Option<u64>,
    first: u64,
    received: u64,
    /// The middle of the last sender report's NTP time, and when it came.
    sender_report: Option<(u32, Instant)>,
}

pub(crate) struct Keyed {
    abilities: Abilities,
    local: Credentials,
    ssrcs: Ssrcs,
    incoming: Context,
    outgoing: Context,
    sources: HashMap<u32, Source>,
    missing: BTreeMap<u64, (Option<Instant>, usize)>,
    /// Arrivals that were not reported yet, by transport-wide number.
    arrivals: BTreeMap<u64, Instant>,
    reported: Option<u64>,
    highest_arrival: Option<u64>,
    /// How fast the clock of its reports is.
    pub(crate) fast_ppm: u32,
    /// Reports of arrivals.
    pub(crate) feedbacks: usize,
    epoch: Instant,
    next_check: Instant,
    next_report: Instant,
    next_feedback: Instant,
    waiting: Vec<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
    asked: Option<Instant>,
    began: Instant,
    /// Requests for lost packets, by how many packets they named.
    pub(crate) nacks: usize,
    pub(crate) keyframe_requests: usize,
    /// Packets that came on the source of retransmissions, and packets that came twice.
    pub(crate) by_rtx: usize,
    pub(crate) again: usize,
    /// Sender reports: when, source, NTP time, RTP time.
    pub(crate) sender_reports: Vec<(Instant, u32, u64, u32)>,
    pub(crate) responses: usize,
    /// Packets that did not open.
    pub(crate) closed: usize,
    pub(crate) latest: Option<u64>,
}

impl Keyed {
    pub(crate) fn new(
        now: Instant,
        abilities: Abilities,
        local: Credentials,
        ssrcs: Ssrcs,
        keying: &[u8; KEYING_LEN],
    ) -> Self {
        let provider = rtc_crypto::default_provider().expect("there is one");
        // RFC 5764, section 4.2: client key, server key, client salt, server salt. We are the client.
        let context = |key: std::ops::Range<usize>, salt: std::ops::Range<usize>| {
            let profile = ProtectionProfile::AeadAes128Gcm;
            Context::new(&keying[key], &keying[salt], profile, None, None, provider.crypto()).unwrap()
        };
        Self {
            abilities,
            local,
            ssrcs,
            incoming: context(16..32, 44..56),
            outgoing: context(0..16, 32..44),
            sources: HashMap::new(),
            missing: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            reported: None,
            highest_arrival: None,
            fast_ppm: 0,
            feedbacks: 0,
            epoch: now.checked_sub(Duration::from_secs(5)).unwrap(),
            next_check: now + CHECK_INTERVAL,
            next_report: now + REPORT_INTERVAL,
            next_feedback: now + abilities.arrivals.unwrap_or_default(),
            waiting: Vec::new(),
            outbox: Vec::new(),
            asked: None,
            began: now,
            nacks: 0,
            keyframe_requests: 0,
            by_rtx: 0,
            again: 0,
            sender_reports: Vec::new(),
            responses: 0,
            closed: 0,
            latest: None,
        }
    }

    /// A connectivity check.
    pub(crate) fn check(&mut self, nominates: bool) -> Vec<u8> {
        check(&self.local, nominates)
    }

    /// The node has new credentials.
    pub(crate) fn restart(&mut self, local: Credentials) {
        self.local = local;
        let check = self.check(true);
        self.outbox.push(check);
    }

    /// RTCP, sealed.
    pub(crate) fn seal(&mut self, rtcp: &[u8]) -> Vec<u8> {
        self.outgoing.encrypt_rtcp(rtcp).unwrap().to_vec()
    }

    /// Sends RTCP with the next drive.
    pub(crate) fn say(&mut self, rtcp: &[u8]) {
        let sealed = self.seal(rtcp);
        self.outbox.push(sealed);
    }

    /// Sends bytes as they are with the next drive.
    pub(crate) fn blurt(&mut self, bytes: Vec<u8>) {
        self.outbox.push(bytes);
    }

    /// Asks for these packets of video.
    pub(crate) fn nack(&mut self, sequences: &[u16]) {
        self.nacks += sequences.len();
        let mut content = Vec::new();
        for sequence in sequences {
            content.extend_from_slice(&sequence.to_be_bytes());
            content.extend_from_slice(&[0, 0]);
        }
        let feedback = feedback(205, 1, self.ssrcs.video, &content);
        self.say(&feedback);
    }

    /// Picture loss indication, or full intra request.
    pub(crate) fn ask_for_keyframe(&mut self, is_fir: bool) {
        self.keyframe_requests += 1;
        let feedback = if is_fir {
            let mut content = self.ssrcs.video.to_be_bytes().to_vec();
            content.extend_from_slice(&[u8::try_from(self.keyframe_requests % 256).unwrap(), 0, 0, 0]);
            feedback(206, 4, 0, &content)
        } else {
            feedback(206, 1, self.ssrcs.video, &[])
        };
        self.say(&feedback);
    }

    pub(crate) fn video_ssrc(&self) -> u32 {
        self.ssrcs.video
    }

    pub(crate) fn audio_ssrc(&self) -> u32 {
        self.ssrcs.audio
    }

    fn open(&mut self, now: Instant, bytes: &[u8], screen: &mut Screen) {
        if bytes.first().is_some_and(|first| *first < 4) {
            match answer_check(bytes, "password of the viewer") {
                Some(answer) => self.outbox.push(answer),
                None => self.responses += 1,
            }
            return;
        }
        let second = bytes.get(1).copied().unwrap_or(0);
        if (192..=223).contains(&second) {
            return self.on_rtcp(now, bytes);
        }
        let Ok(plain) = self.incoming.decrypt_rtp(bytes) else {
            self.closed += 1;
            return;
        };
        let (header, mut payload) = Header::parse(&plain);
        if let Some(number) = header.transport {
            let number = extend(number, &mut self.highest_arrival);
            let fast = (now - self.epoch) * self.fast_ppm / 1_000_000;
            self.arrivals.entry(number).or_insert(now + fast);
        }
        let mut source = self.sources.get(&header.ssrc).copied().unwrap_or_default();
        let is_first = source.highest.is_none();
        let before = source.highest;
        let mut index = extend(header.sequence, &mut source.highest);
        if is_first {
            source.first = index;
        }
        source.received += 1;
        self.sources.insert(header.ssrc, source);
        if header.ssrc == self.ssrcs.video_rtx {
            self.by_rtx += 1;
            assert_eq!(header.pt, RTX_PT);
            let mut highest = self.sources.get(&self.ssrcs.video).and_then(|video| video.highest);
            index = extend(u16::from_be_bytes([payload[0], payload[1]]), &mut highest);
            payload = &payload[2..];
        } else if let Some(before) = before.filter(|_| header.ssrc == self.ssrcs.video) {
            self.again += usize::from(index <= before && !self.missing.contains_key(&index));
            for lost in before + 1..index {
                self.missing.insert(lost, (None, 0));
            }
        }
        let rtp =
            Rtp { index, timestamp: header.timestamp, marker: header.marker, payload: payload.to_vec() };
        if header.ssrc == self.ssrcs.audio {
            assert_eq!(header.pt, AUDIO_PT);
            screen.on_audio(now, &rtp);
        } else {
            self.latest = self.latest.max(Some(index));
            self.missing.remove(&index);
            screen.on_video(now, rtp);
        }
    }

    fn on_rtcp(&mut self, now: Instant, bytes: &[u8]) {
        let plain = self.incoming.decrypt_rtcp(bytes).expect("sender reports open");
        let word = |at: usize| u32::from_be_bytes(plain[at..at + 4].try_into().unwrap());
        assert_eq!(plain[1], 200, "a sender report comes first");
        let ntp = u64::from(word(8)) << 32 | u64::from(word(12));
        self.sender_reports.push((now, word(4), ntp, word(16)));
        let source = self.sources.entry(word(4)).or_default();
        source.sender_report = Some((u32::try_from(ntp >> 16 & 0xffff_ffff).unwrap(), now));
    }

    fn ask_for_missing(&mut self, now: Instant) {
        let newest = self.latest.unwrap_or(0);
        self.missing.retain(|index, (_, times)| *times < NACKS_MAX && newest.saturating_sub(*index) < WINDOW);
        let mut due = Vec::new();
        for (index, (asked, times)) in &mut self.missing {
            if asked.is_none_or(|asked| now - asked >= NACK_RETRY) {
                (*asked, *times) = (Some(now), *times + 1);
                due.push(u16::try_from(index & 0xffff).unwrap());
            }
        }
        for some in due.chunks(250) {
            self.nack(some);
        }
    }

    fn report(&mut self, now: Instant) {
        let blocks = self.sources.iter().filter_map(|(ssrc, source)| {
            let highest = source.highest?;
            let lost = (highest + 1 - source.first).saturating_sub(source.received);
            let (last, held) = source.sender_report.map_or((0, Duration::ZERO), |(ntp, at)| (ntp, now - at));
            Some(Block { ssrc: *ssrc, lost, highest, last, held })
        });
        let report = receiver_report(blocks);
        self.say(&report);
    }

    /// Arrivals since the last feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    fn report_arrivals(&mut self) {
        let Some((last, _)) = self.arrivals.last_key_value() else { return };
        let last = *last;
        let first =
            self.reported.map_or(*self.arrivals.first_key_value().unwrap().0, |reported| reported + 1);
        if last < first {
            self.arrivals.clear();
            return;
        }
        let content = arrivals(first..=last, &self.arrivals, self.epoch, self.feedbacks);
        self.feedbacks += 1;
        self.reported = Some(last);
        self.arrivals.clear();
        let feedback = feedback(205, 15, self.ssrcs.video, &content);
        self.say(&feedback);
    }

    fn ask_when_stuck(&mut self, now: Instant, screen: &Screen) {
        let shown = screen.shown.last().map(|shown| shown.whole);
        let since = shown.unwrap_or(self.began).max(self.asked.unwrap_or(self.began));
        let wait = if shown.is_some() || self.asked.is_some() { 3_000 } else { 200 };
        if self.abilities.reports && self.latest.is_some() && now - since > Duration::from_millis(wait) {
            self.asked = Some(now);
            self.ask_for_keyframe(false);
        }
    }
}

impl Client for Keyed {
    fn receive(&mut self, _now: Instant, from: SocketAddr, bytes: &[u8]) {
        assert_eq!(from, NODE);
        self.waiting.push(bytes.to_vec());
    }

    fn drive(&mut self, now: Instant, screen: &mut Screen) -> Vec<Vec<u8>> {
        for bytes in std::mem::take(&mut self.waiting) {
            self.open(now, &bytes, screen);
        }
        if self.abilities.nack && !self.missing.is_empty() {
            self.ask_for_missing(now);
        }
        if self.abilities.checks && now >= self.next_check {
            self.next_check = now + CHECK_INTERVAL;
            let check = self.check(false);
            self.outbox.push(check);
        }
        if self.abilities.reports && now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            self.report(now);
        }
        if let Some(interval) =
            self.abilities.arrivals.filter(|_| now >= self.next_feedback && !self.arrivals.is_empty())
        {
            self.next_feedback = now + interval;
            self.report_arrivals();
        }
        self.ask_when_stuck(now, screen);
        std::mem::take(&mut self.outbox)
    }

    fn next(&self) -> Option<Instant> {
        let retry =
            self.missing.values().filter_map(|(asked, _)| asked.map(|asked| asked + NACK_RETRY)).min();
        let due = [
            self.abilities.checks.then_some(self.next_check),
            self.abilities.reports.then_some(self.next_report),
            (!self.arrivals.is_empty()).then_some(self.next_feedback),
            retry.filter(|_| self.abilities.nack),
        ];
        due.into_iter().flatten().min()
    }

    fn keyed(&mut self) -> Option<&mut Self> {
        Some(self)
    }
}
