//! A viewer made of str0m: a WebRTC client that shares no media code with us.
use std::net::SocketAddr;
use std::sync::Once;
use std::time::{Duration, Instant};

use rtc::sdp::Credentials;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::screen::{Rtp, Screen};
use crate::world::Client;

/// How long a player waits for something that it can show before it asks for a keyframe, as Chromium does: before the first
/// and later.
const KEYFRAME_WAIT: Duration = Duration::from_millis(200);
const FRAME_WAIT: Duration = Duration::from_secs(3);

/// What the browser offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    pub(crate) transport_cc: bool,
    pub(crate) rtx: bool,
}

pub(crate) struct Browser {
    rtc: Rtc,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    answer: String,
    next: Option<Instant>,
    waiting: Vec<(SocketAddr, Vec<u8>)>,
    video_ssrc: Option<str0m::rtp::Ssrc>,
    asked: Option<Instant>,
    pub(crate) connected: Option<Instant>,
    pub(crate) is_closed: bool,
}

impl Browser {
    /// A browser and its offer.
    pub(crate) fn new(now: Instant, address: SocketAddr, offers: Offers) -> (Self, String) {
        static CRYPTO: Once = Once::new();
        CRYPTO.call_once(|| str0m::crypto::from_feature_flags().install_process_default());
        let mut config = Rtc::builder()
            .clear_codecs()
            .enable_h264(true)
            .enable_opus(true, false)
            .set_rtp_mode(true)
            .set_stats_interval(None);
        if !offers.transport_cc {
            config = config.clear_extension_map();
        }
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let mut changes = rtc.sdp_api();
        changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = changes.apply().unwrap();
        let mut sdp = offer.to_sdp_string();
        if !offers.rtx {
            sdp = sdp.replace(" rtx/90000", " none/90000");
        }
        let browser = Self {
            rtc,
            address,
            pending: Some(pending),
            answer: String::new(),
            next: Some(now),
            waiting: Vec::new(),
            video_ssrc: None,
            asked: None,
            connected: None,
            is_closed: false,
        };
        (browser, sdp)
    }

    /// Begins an ICE restart. Returns the new credentials of the browser.
    pub(crate) fn begin_restart(&mut self) -> Credentials {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().expect("there is something to change");
        self.pending = Some(pending);
        let offer = offer.to_sdp_string();
        let value = |name: &str| offer.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        Credentials { ufrag: value("a=ice-ufrag:"), pwd: value("a=ice-pwd:") }
    }

    /// Ends an ICE restart; the node's new credentials come with an answer that is otherwise the one before.
    pub(crate) fn restart_ice(&mut self, local: &Credentials) {
        let changed = self.answer.lines().map(|line| match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}\r\n", local.ufrag),
            Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}\r\n", local.pwd),
            _ => format!("{line}\r\n"),
        });
        let answer: String = changed.collect();
        self.accept(&answer);
    }

    pub(crate) fn accept(&mut self, answer: &str) {
        self.answer = answer.to_owned();
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(self.pending.take().unwrap(), answer).unwrap();
    }

    /// The str0m session.
    pub(crate) fn rtc(&mut self) -> &mut Rtc {
        &mut self.rtc
    }

    pub(crate) fn request_keyframe(&mut self, kind: KeyframeRequestKind) {
        if let Some(stream) =
            self.video_ssrc.and_then(|ssrc| self.rtc.direct_api().stream_rx(&ssrc).map(|_| ssrc))
        {
            self.rtc.direct_api().stream_rx(&stream).unwrap().request_keyframe(kind);
        }
    }

    fn on_packet(&mut self, now: Instant, packet: RtpPacket, screen: &mut Screen) {
        let rtp = Rtp {
            index: *packet.seq_no,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload.to_vec(),
        };
        if packet.time.frequency().get() == 48_000 {
            screen.on_audio(now, &rtp);
        } else {
            self.video_ssrc = Some(packet.header.ssrc);
            screen.on_video(now, rtp);
        }
    }

    fn poll(&mut self, now: Instant, screen: &mut Screen, sent: &mut Vec<Vec<u8>>) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(next)) => {
                    self.next = Some(next);
                    return;
                }
                Ok(Output::Transmit(transmit)) => sent.push(transmit.contents.to_vec()),
                Ok(Output::Event(Event::Connected)) => self.connected = Some(now),
                Ok(Output::Event(Event::RtpPacket(packet))) => self.on_packet(now, packet, screen),
                Ok(Output::Event(_)) => {}
                Err(_) => {
                    (self.next, self.is_closed) = (None, true);
                    return;
                }
            }
        }
    }

    fn ask(&mut self, now: Instant, screen: &Screen) {
        let Some(connected) = self.connected else { return };
        let (since, wait) =
            screen.shown.last().map_or((connected, KEYFRAME_WAIT), |shown| (shown.whole, FRAME_WAIT));
        let since = self.asked.map_or(since, |asked| asked.max(since));
        let wait = if self.asked.is_some() { FRAME_WAIT } else { wait };
        if now - since > wait && self.video_ssrc.is_some() {
            self.asked = Some(now);
            self.request_keyframe(KeyframeRequestKind::Pli);
        }
    }
}

impl Client for Browser {
    fn receive(&mut self, _now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.waiting.push((from, bytes.to_vec()));
    }

    fn drive(&mut self, now: Instant, screen: &mut Screen) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for (source, bytes) in std::mem::take(&mut self.waiting) {
            let Ok(contents) = bytes.as_slice().try_into() else { continue };
            let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
            // Garbage is refused, and that is that. One input, one drain.
            let _ = self.rtc.handle_input(Input::Receive(now, receive));
            self.poll(now, screen, &mut sent);
        }
        self.ask(now, screen);
        if self.next.is_some_and(|next| next <= now) {
            let _ = self.rtc.handle_input(Input::Timeout(now));
        }
        self.poll(now, screen, &mut sent);
        sent
    }

    fn next(&self) -> Option<Instant> {
        self.next
    }

    fn browser(&mut self) -> Option<&mut Browser> {
        Some(self)
    }
}
