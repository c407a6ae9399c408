//! One viewer as its shard knows it: ICE agent, DTLS handshake, keys and media.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dimpl::SrtpProfile;
use media::MediaTime;
use rand::Rng;
use rand::rngs::StdRng;
use rtp::rtcp::{self, Feedback};

use crate::CNAME;
use crate::batch::{Batch, Path};
use crate::command::{CloseReason, NewViewer};
use crate::counters::Counters;
use crate::dtls::{Dtls, DtlsError, Flight};
use crate::handshake::{Done, Input, Job};
use crate::ice::{Agent, Answer};
use crate::id::{StreamId, ViewerId};
use crate::ring::Ring;
use crate::sdp::Fingerprint;
use crate::seats::Claim;
use crate::srtp::Srtp;
use crate::viewer::{Crowd, Out, Viewer, ViewerStats};

/// RFC 7675, section 5.1: media ends when nothing authentic has come for this long.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A viewer that got an answer must be connected within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Datagrams of one handshake that wait while it is worked on: a flight has a handful. More are dropped, and sent again.
const FLIGHT_MAX: usize = 8;
/// How long video waits when the socket is full, before it is tried again.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// How long a retransmission of ours is put off when handshakes wait in their thousands.
const CROWDED_WAIT: Duration = Duration::from_millis(100);

/// This moment on the clocks that reports need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    pub(crate) ntp: u64,
}

/// What an input led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    Connected,
    /// Media is to begin anew: what was sent so far could not be opened.
    Restart,
    Close(CloseReason),
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: ViewerId,
    pub(crate) stream: StreamId,
    pub(crate) created: Instant,
    pub(crate) agent: Agent,
    handshake: Handshake,
    srtp: Option<Srtp>,
    viewer: Viewer,
    heard: Instant,
    /// When the next pass of video may be.
    next_pass: Option<Instant>,
    counted: ViewerStats,
    first_report: FirstReport,
    _claim: Claim,
}

/// The first report on the picture, which is counted once.
#[derive(Clone, Copy, Debug)]
enum FirstReport {
    None,
    After(Duration),
    Counted,
}

/// A viewer's DTLS session, which is here or with the thread that works on it.
#[derive(Debug)]
struct Handshake {
    dtls: Place,
    expected: Fingerprint,
    /// What came while it was away.
    waiting: VecDeque<(Path, Vec<u8>)>,
    /// Before this its thread had too much to do.
    not_before: Instant,
}

#[derive(Debug)]
enum Place {
    /// Nothing has come from the viewer yet.
    Nowhere,
    Here(Box<Dtls>),
    Away,
}

impl Peer {
    pub(crate) fn new(now: Instant, new: NewViewer, burst_multiple: u32, rng: &mut StdRng) -> Self {
        let expected = new.terms.remote_fingerprint;
        let viewer = Viewer::new(now, &new.terms, burst_multiple, rng);
        Self {
            id: new.id,
            stream: new.stream,
            created: now,
            agent: Agent::new(new.local, new.terms.remote),
            handshake: Handshake {
                dtls: Place::Nowhere,
                expected,
                waiting: VecDeque::new(),
                not_before: now,
            },
            srtp: None,
            viewer,
            heard: now,
            next_pass: None,
            counted: ViewerStats::default(),
            first_report: FirstReport::None,
            _claim: new.claim,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    pub(crate) fn profile(&self) -> &'static str {
        match self.srtp.as_ref().map(Srtp::profile) {
            Some(SrtpProfile::AEAD_AES_128_GCM) => "AEAD_AES_128_GCM",
            Some(SrtpProfile::AEAD_AES_256_GCM) => "AEAD_AES_256_GCM",
            Some(SrtpProfile::AES128_CM_SHA1_80) => "AES128_CM_SHA1_80",
            _ => "none",
        }
    }

    pub(crate) fn stats(&self) -> ViewerStats {
        self.viewer.stats
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> {
        self.agent.paths()
    }

    /// When this session wants to be driven at the latest.
    pub(crate) fn next_wake(&self) -> Instant {
        let end = self.heard + CONSENT_TIMEOUT;
        if !self.is_connected() {
            let wake = end.min(self.created + CONNECT_TIMEOUT);
            return match &self.handshake.dtls {
                Place::Here(dtls) => wake.min(dtls.deadline.max(self.handshake.not_before)),
                Place::Nowhere | Place::Away => wake,
            };
        }
        // Without a way out nothing can be sent, so nothing is due: a connection that broke may yet be replaced.
        if self.agent.selected().is_none() {
            return end;
        }
        let due = [Some(self.viewer.next_report()), self.viewer.next_resend(), self.next_pass];
        due.into_iter().flatten().fold(end, Instant::min)
    }

    /// A connectivity check; answered when it knows the password.
    pub(crate) fn on_check(
        &mut self,
        now: Instant,
        path: Path,
        from: SocketAddr,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> Option<Answer> {
        let answer = self.agent.on_request(now, path, from, bytes)?;
        self.heard = now;
        batch.push(&answer.response, path);
        if let Some(probe) = &answer.probe {
            batch.push(probe, path);
        }
        Some(answer)
    }

    /// A datagram of the handshake, or of DTLS after it.
    pub(crate) fn on_dtls(&mut self, bytes: &[u8], path: Path, jobs: &mut Vec<Job>) {
        self.agent.on_handshake(path);
        if matches!(self.handshake.dtls, Place::Away) {
            if self.handshake.waiting.len() < FLIGHT_MAX {
                self.handshake.waiting.push_back((path, bytes.to_vec()));
            }
            return;
        }
        self.hand_out(Input::Datagram(bytes.to_vec()), Some(path), jobs);
    }

    /// The handshake comes back; what came meanwhile is next.
    pub(crate) fn on_handshake(
        &mut self,
        now: Instant,
        done: Done,
        jobs: &mut Vec<Job>,
        batch: &mut Batch,
    ) -> Verdict {
        let is_repeated = self.is_connected() && !done.flight.is_empty();
        self.handshake.dtls = done.dtls.map_or(Place::Nowhere, Place::Here);
        if let Some(path) = done.path.or(self.agent.handshake_path()) {
            done.flight.iter().for_each(|packet| batch.push(packet, path));
        }
        let mut verdict = self.on_dtls_outcome(now, done.outcome);
        // The viewer repeats its last flight: ours was lost, and with it the keys for all media sent since.
        if is_repeated && verdict == Verdict::Stay && matches!(self.first_report, FirstReport::None) {
            verdict = Verdict::Restart;
        }
        if !matches!(verdict, Verdict::Close(_))
            && let Some((path, bytes)) = self.handshake.waiting.pop_front()
        {
            self.hand_out(Input::Datagram(bytes), Some(path), jobs);
        }
        verdict
    }

    /// Gives the handshake to the thread that works on it.
    fn hand_out(&mut self, input: Input, path: Option<Path>, jobs: &mut Vec<Job>) {
        let dtls = match std::mem::replace(&mut self.handshake.dtls, Place::Away) {
            Place::Here(dtls) => Some(dtls),
            Place::Nowhere | Place::Away => None,
        };
        jobs.push(Job { viewer: self.id, dtls, expected: self.handshake.expected, input, path });
    }

    /// The thread has too much to do: the input is dropped, and DTLS repeats it.
    pub(crate) fn on_refused(&mut self, now: Instant, job: Job) {
        self.handshake.dtls = job.dtls.map_or(Place::Nowhere, Place::Here);
        self.handshake.not_before = now + CROWDED_WAIT;
    }

    fn on_dtls_outcome(&mut self, now: Instant, outcome: Result<Option<Srtp>, DtlsError>) -> Verdict {
        match outcome {
            Ok(Some(srtp)) => {
                self.srtp = Some(srtp);
                self.agent.on_keys(now);
                self.heard = now;
                Verdict::Connected
            }
            Ok(None) => Verdict::Stay,
            Err(DtlsError::Closed) => Verdict::Close(CloseReason::Left),
            Err(error) if self.is_connected() => {
                tracing::debug!(%error, "DTLS after the handshake");
                Verdict::Stay
            }
            Err(error) => {
                tracing::debug!(%error, "DTLS handshake");
                Verdict::Close(CloseReason::NeverConnected)
            }
        }
    }

    /// RTCP from the viewer; `None` if it cannot be opened.
    pub(crate) fn on_feedback(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &mut [u8],
        ring: &Ring,
        (crowd, rng): (&mut Crowd, &mut StdRng),
        batch: &mut Batch,
    ) -> Option<()> {
        let srtp = self.srtp.as_mut()?;
        let plain = srtp.unprotect_rtcp(bytes)?;
        self.heard = now;
        self.agent.on_authentic_feedback(now, path);
        let Some(path) = self.agent.selected() else { return Some(()) };
        let (mut may_send, mut has_video_report) = (false, false);
        let mut out = Out { srtp, path, batch };
        let viewer = &mut self.viewer;
        rtcp::parse(plain, |feedback| match feedback {
            Feedback::Report(block) => has_video_report |= viewer.on_report(now, &block),
            Feedback::Nack { ssrc, lost } => {
                viewer.on_nack(now, (ssrc, lost), ring, (crowd, rng.random()), &mut out);
            }
            Feedback::KeyframeRequest { .. } => may_send |= viewer.on_keyframe_request(now, ring),
            Feedback::Arrivals(arrivals) => {
                viewer.on_arrivals(now, &arrivals, ring);
                may_send = true;
            }
            // A browser says goodbye for a source it stops; the session ends with DTLS or DELETE.
            Feedback::Goodbye => {}
        });
        if has_video_report && matches!(self.first_report, FirstReport::None) {
            self.first_report = FirstReport::After(now.saturating_duration_since(self.created));
        }
        if may_send {
            self.send_video(now, ring, batch);
        }
        Some(())
    }

    /// Whatever is due: the handshake's retransmission, a report, a pass of video, the end of consent.
    pub(crate) fn on_timer(
        &mut self,
        clock: Clock,
        time: MediaTime,
        ring: &Ring,
        jobs: &mut Vec<Job>,
        batch: &mut Batch,
    ) -> Verdict {
        let now = clock.now;
        if now >= self.heard + CONSENT_TIMEOUT {
            return Verdict::Close(if self.is_connected() {
                CloseReason::Lost
            } else {
                CloseReason::NeverConnected
            });
        }
        if !self.is_connected() {
            if now >= self.created + CONNECT_TIMEOUT {
                return Verdict::Close(CloseReason::NeverConnected);
            }
            if matches!(&self.handshake.dtls, Place::Here(dtls) if now >= dtls.deadline.max(self.handshake.not_before))
            {
                self.hand_out(Input::Timeout, self.agent.handshake_path(), jobs);
            }
            return Verdict::Stay;
        }
        if now >= self.viewer.next_report() {
            self.with_media(batch, |viewer, out| viewer.send_reports(now, time, clock.ntp, CNAME, out));
        }
        self.with_media(batch, |viewer, out| viewer.resend_waiting(now, ring, out));
        if self.next_pass.is_some_and(|pass| now >= pass) {
            self.send_video(now, ring, batch);
        }
        Verdict::Stay
    }

    /// The socket is full: video that is due waits.
    pub(crate) fn put_off(&mut self, now: Instant) {
        self.next_pass = self.next_pass.map(|pass| pass.max(now + FULL_WAIT));
    }

    /// Leaves out video up to the next keyframe.
    pub(crate) fn skip(&mut self, now: Instant, ring: &Ring) {
        self.viewer.skip(now, ring);
    }

    /// Begins with the newest keyframe again.
    pub(crate) fn restart(&mut self, now: Instant, ring: &Ring, batch: &mut Batch) {
        if self.viewer.restart(now, ring) {
            self.send_video(now, ring, batch);
        }
    }

    pub(crate) fn send_video(&mut self, now: Instant, ring: &Ring, batch: &mut Batch) {
        let next = self.with_media(batch, |viewer, out| viewer.send_video(now, ring, out));
        self.next_pass = next.flatten();
    }

    /// Runs `act` if the viewer can be sent media.
    pub(crate) fn with_media<T>(
        &mut self,
        batch: &mut Batch,
        act: impl FnOnce(&mut Viewer, &mut Out<'_>) -> T,
    ) -> Option<T> {
        let srtp = self.srtp.as_mut()?;
        let path = self.agent.selected()?;
        Some(act(&mut self.viewer, &mut Out { srtp, path, batch }))
    }

    pub(crate) fn say_goodbye(&mut self, batch: &mut Batch) {
        // A viewer that leaves amid its handshake needs no goodbye.
        if let (Place::Here(dtls), Some(path)) =
            (&mut self.handshake.dtls, self.agent.selected().or(self.agent.handshake_path()))
        {
            let mut flight = Flight::new();
            dtls.close(&mut flight);
            flight.iter().for_each(|packet| batch.push(packet, path));
        }
    }

    /// Adds what happened since the last call to the counters of the process.
    pub(crate) fn account(&mut self, counters: &Counters) -> ViewerStats {
        let (stats, before) = (self.viewer.stats, self.counted);
        counters.packets.add(stats.packets - before.packets);
        counters.bytes.add(stats.bytes - before.bytes);
        counters.resent.add(stats.resent - before.resent);
        counters.keyframe_requests.add(stats.keyframe_requests - before.keyframe_requests);
        counters.skips.add(stats.skips - before.skips);
        counters.resends_refused.add(stats.resends_refused - before.resends_refused);
        if let FirstReport::After(took) = self.first_report {
            counters.first_report.observe(took);
            self.first_report = FirstReport::Counted;
        }
        self.counted = stats;
        stats
    }
}

#[cfg(test)]
mod tests;
