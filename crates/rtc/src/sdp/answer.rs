//! The answer, written.
use std::fmt::Write as _;
use std::net::SocketAddr;

use super::codec::{self, Codec, ExtensionKind};
use super::offer::{Kind, Offer, Section};
use super::{
    AudioTerms, Candidate, Credentials, Fingerprint, OfferError, Rtx, Ssrcs, Terms, Transport, VideoTerms,
};

/// RFC 8445, section 5.1.2: the priority of a host candidate of the first component; later ones get less.
const HOST_PRIORITY: u32 = (126 << 24) | (65_535 << 8) | 255;
/// RFC 6544, section 4.2: TCP comes behind every UDP candidate.
const TCP_PRIORITY: u32 = (90 << 24) | (65_535 << 8) | 255;

/// What we bring to an answer.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// Our half of the ICE credentials.
    pub credentials: &'a Credentials,
    /// Our certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// Where we are reached, best first.
    pub candidates: &'a [Candidate],
    /// The `profile-level-id` of the stream's picture, if it has one now.
    pub video: Option<[u8; 3]>,
    /// Whether the stream has sound now.
    pub audio: bool,
    /// The viewer asked for the playout-delay extension.
    pub low_latency: bool,
    /// Our sources.
    pub ssrcs: Ssrcs,
    /// The number of the session in the `o=` line.
    pub session_id: u64,
    /// The name that binds the sources together.
    pub cname: &'a str,
}

/// An answer and what it settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session description.
    pub sdp: String,
    /// What the engine needs to know.
    pub terms: Terms,
}

/// What becomes of a section.
enum Fate<'a> {
    Video(&'a Codec, VideoTerms),
    Audio(AudioTerms),
    /// Carries the bundle's transport and no media.
    Idle(&'a Codec),
    Rejected,
}

impl Offer {
    /// Answers the offer: the first video and the first audio section that can carry a stream, everything else
    /// rejected. Picture and sound may come and go while a session lasts, so what the stream lacks now is answered too.
    pub fn answer(&self, local: &Local<'_>) -> Result<Answer, OfferError> {
        let fates = self.fates(local);
        let accepted =
            || self.sections.iter().zip(&fates).filter(|(_, fate)| !matches!(fate, Fate::Rejected));
        let receives_video =
            self.sections.iter().any(|section| section.kind == Kind::Video && section.receives());
        let gets_media = fates.iter().any(|fate| matches!(fate, Fate::Video(..) | Fate::Audio(..)));
        // Without H.264 there may still be the sound.
        if receives_video && !gets_media {
            return Err(OfferError::NoH264);
        }
        let mut transports = accepted().map(|(section, _)| section);
        let first = transports.clone().next().ok_or(OfferError::NothingToSend)?;
        if self.bundle.is_empty() && transports.clone().count() > 1 {
            return Err(OfferError::NotBundled);
        }
        let is_tagged =
            |section: &&Section| self.tagged().is_some_and(|tagged| std::ptr::eq(tagged, *section));
        let transport = transports.find(is_tagged).unwrap_or(first);
        let remote = self.credentials(transport)?;
        let remote_fingerprint = self.fingerprint(transport)?;
        if self.is_passive(transport) {
            return Err(OfferError::BothPassive);
        }
        if self.is_lite {
            return Err(OfferError::BothLite);
        }
        let mut terms = Terms { remote, remote_fingerprint, video: None, audio: None };
        for fate in &fates {
            match fate {
                Fate::Video(_, video) => terms.video = Some(video.clone()),
                Fate::Audio(audio) => terms.audio = Some(audio.clone()),
                Fate::Idle(_) | Fate::Rejected => {}
            }
        }
        let mut sdp = String::with_capacity(4096);
        self.write_session(&mut sdp, local, accepted().filter_map(|(section, _)| section.mid.as_deref()));
        for (section, fate) in self.sections.iter().zip(&fates) {
            write_section(&mut sdp, section, fate, local);
        }
        Ok(Answer { sdp, terms })
    }

    fn fates(&self, local: &Local<'_>) -> Vec<Fate<'_>> {
        // What is not there yet is no reason to ask for a second transport.
        let has_one_transport = !self.bundle.is_empty() || self.sections.len() == 1;
        let mut wants_video = has_one_transport || local.video.is_some();
        let mut wants_audio = has_one_transport || local.audio;
        let mut fates = Vec::with_capacity(self.sections.len());
        for (index, section) in self.sections.iter().enumerate() {
            let mid = section.mid.clone().unwrap_or_else(|| index.to_string());
            // One transport for all: a section outside the bundle would need another (RFC 9143, section 7.3.3).
            let is_bundled = self.bundle.is_empty() || self.bundle.contains(&mid);
            let fate = match section.kind {
                _ if !section.receives() || !is_bundled => None,
                Kind::Video if wants_video => video(section, mid, local),
                Kind::Audio if wants_audio => audio(section, mid, local),
                _ => None,
            };
            wants_video &= !matches!(fate, Some(Fate::Video(..)));
            wants_audio &= !matches!(fate, Some(Fate::Audio(..)));
            fates.push(fate.unwrap_or(Fate::Rejected));
        }
        self.keep_transport(&mut fates);
        fates
    }

    /// The first section of a bundle owns its transport. RFC 9143, section 7.3.1 lets an answer reject it and pass the
    /// transport on; libwebrtc then fails to set up RTCP multiplexing. So it stays, without media.
    fn keep_transport<'a>(&'a self, fates: &mut [Fate<'a>]) {
        let has_media = fates.iter().any(|fate| matches!(fate, Fate::Video(..) | Fate::Audio(..)));
        let Some(tagged) = self.tagged().filter(|_| has_media) else { return };
        for (section, fate) in self.sections.iter().zip(fates) {
            if std::ptr::eq(section, tagged)
                && matches!(fate, Fate::Rejected)
                && matches!(section.kind, Kind::Video | Kind::Audio)
                && !section.is_rejected
                && let Some(codec) = section.codecs.iter().find(|codec| codec.encoding().is_some())
            {
                *fate = Fate::Idle(codec);
            }
        }
    }

    fn write_session<'a>(&self, sdp: &mut String, local: &Local<'_>, mids: impl Iterator<Item = &'a str>) {
        line(sdp, format_args!("v=0"));
        line(sdp, format_args!("o=- {} 1 IN IP4 0.0.0.0", local.session_id));
        line(sdp, format_args!("s=-"));
        line(sdp, format_args!("t=0 0"));
        let mids: Vec<&str> = mids.collect();
        if !self.bundle.is_empty() && !mids.is_empty() {
            line(sdp, format_args!("a=group:BUNDLE {}", mids.join(" ")));
        }
        line(sdp, format_args!("a=msid-semantic: WMS *"));
        line(sdp, format_args!("a=ice-lite"));
    }
}

fn audio<'a>(section: &'a Section, mid: String, local: &Local<'_>) -> Option<Fate<'a>> {
    let codec = section.codecs.iter().find(|codec| codec.is_opus())?;
    Some(Fate::Audio(AudioTerms { mid, pt: codec.pt, ssrc: local.ssrcs.audio }))
}

fn video<'a>(section: &'a Section, mid: String, local: &Local<'_>) -> Option<Fate<'a>> {
    let profile = local.video.unwrap_or(codec::CONSTRAINED_BASELINE);
    let codec = codec::choose_h264(&section.codecs, profile)?;
    let rtx = codec::rtx_of(&section.codecs, codec.pt).filter(|_| codec.nack);
    let id_of =
        |kind| section.extensions.iter().find(|extension| extension.kind == kind).map(|found| found.id);
    let terms = VideoTerms {
        mid,
        pt: codec.pt,
        ssrc: local.ssrcs.video,
        rtx: rtx.map(|pt| Rtx { pt, ssrc: local.ssrcs.video_rtx }),
        nack: codec.nack,
        playout_delay_id: id_of(ExtensionKind::PlayoutDelay).filter(|_| local.low_latency),
        transport_cc_id: id_of(ExtensionKind::TransportCc).filter(|_| codec.transport_cc),
    };
    Some(Fate::Video(codec, terms))
}

fn write_section(sdp: &mut String, section: &Section, fate: &Fate<'_>, local: &Local<'_>) {
    match fate {
        Fate::Rejected => {
            // RFC 3264, section 6: port 0, and at least one format, whose meaning is lost.
            let formats = if section.formats.is_empty() { "0".to_owned() } else { section.formats.join(" ") };
            line(sdp, format_args!("m={} 0 {} {formats}", section.media, section.protocol));
            line(sdp, format_args!("c=IN IP4 0.0.0.0"));
            if let Some(mid) = &section.mid {
                line(sdp, format_args!("a=mid:{mid}"));
            }
            line(sdp, format_args!("a=inactive"));
        }
        Fate::Idle(codec) => {
            write_head(sdp, section, local, "inactive", [Some(codec.pt), None]);
            line(sdp, format_args!("a=rtpmap:{} {}", codec.pt, codec.encoding().unwrap_or_default()));
        }
        Fate::Video(codec, terms) => {
            let rtx = terms.rtx.map(|rtx| rtx.pt);
            write_head(sdp, section, local, "sendonly", [Some(terms.pt), rtx]);
            let level = local.video.map_or(0x1f, |[_, _, level]| level);
            line(sdp, format_args!("a=rtpmap:{} H264/90000", terms.pt));
            line(sdp, format_args!("a=fmtp:{} {}", terms.pt, codec.h264_answer(level)));
            let feedback = [
                (codec.nack, "nack"),
                (codec.pli, "nack pli"),
                (codec.fir, "ccm fir"),
                (terms.transport_cc_id.is_some(), "transport-cc"),
            ];
            for (is_wanted, feedback) in feedback {
                if is_wanted {
                    line(sdp, format_args!("a=rtcp-fb:{} {feedback}", terms.pt));
                }
            }
            let extensions = [
                (terms.playout_delay_id, ExtensionKind::PlayoutDelay),
                (terms.transport_cc_id, ExtensionKind::TransportCc),
            ];
            for (id, kind) in extensions {
                if let Some(id) = id {
                    line(sdp, format_args!("a=extmap:{id} {}", kind.uri()));
                }
            }
            if let Some(rtx) = terms.rtx {
                line(sdp, format_args!("a=rtpmap:{} rtx/90000", rtx.pt));
                line(sdp, format_args!("a=fmtp:{} apt={}", rtx.pt, terms.pt));
                line(sdp, format_args!("a=ssrc-group:FID {} {}", terms.ssrc, rtx.ssrc));
            }
            write_source(sdp, terms.ssrc, "video", local);
            if let Some(rtx) = terms.rtx {
                write_source(sdp, rtx.ssrc, "video", local);
            }
        }
        Fate::Audio(terms) => {
            write_head(sdp, section, local, "sendonly", [Some(terms.pt), None]);
            line(sdp, format_args!("a=rtpmap:{} opus/48000/2", terms.pt));
            // RFC 7587, section 6.1: what we send may be stereo, and carries in-band FEC if the encoder adds it.
            line(sdp, format_args!("a=fmtp:{} minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1", terms.pt));
            write_source(sdp, terms.ssrc, "audio", local);
        }
    }
}

/// What both kinds of section begin with: the same transport for both, once for each as RFC 9429, section 5.3.1 wants.
fn write_head(sdp: &mut String, section: &Section, local: &Local<'_>, direction: &str, pts: [Option<u8>; 2]) {
    let formats: Vec<String> = pts.iter().flatten().map(u8::to_string).collect();
    line(sdp, format_args!("m={} 9 {} {}", section.media, section.protocol, formats.join(" ")));
    line(sdp, format_args!("c=IN IP4 0.0.0.0"));
    line(sdp, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    for (index, candidate) in local.candidates.iter().enumerate() {
        line(sdp, format_args!("a={}", write_candidate(index, candidate)));
    }
    line(sdp, format_args!("a=end-of-candidates"));
    line(sdp, format_args!("a=ice-ufrag:{}", local.credentials.ufrag));
    line(sdp, format_args!("a=ice-pwd:{}", local.credentials.pwd));
    line(sdp, format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
    line(sdp, format_args!("a=setup:passive"));
    if let Some(mid) = &section.mid {
        line(sdp, format_args!("a=mid:{mid}"));
    }
    line(sdp, format_args!("a={direction}"));
    if direction == "sendonly" {
        line(sdp, format_args!("a=msid:{} {}", local.cname, section.media));
    }
    line(sdp, format_args!("a=rtcp-mux"));
    line(sdp, format_args!("a=rtcp-mux-only"));
    if section.has_reduced_rtcp {
        line(sdp, format_args!("a=rtcp-rsize"));
    }
}

fn write_source(sdp: &mut String, ssrc: u32, track: &str, local: &Local<'_>) {
    line(sdp, format_args!("a=ssrc:{ssrc} cname:{}", local.cname));
    line(sdp, format_args!("a=ssrc:{ssrc} msid:{} {track}", local.cname));
}

/// RFC 8839, section 5.1, and RFC 6544, section 4.5 for TCP.
pub(super) fn write_candidate(index: usize, candidate: &Candidate) -> String {
    let Candidate { addr, transport } = candidate;
    let rank = u32::try_from(index).unwrap_or(u32::MAX).min(65_535) << 8;
    let (protocol, priority, suffix) = match transport {
        Transport::Udp => ("udp", HOST_PRIORITY - rank, ""),
        Transport::TcpPassive => ("tcp", TCP_PRIORITY - rank, " tcptype passive"),
    };
    let (ip, port) = match addr {
        SocketAddr::V4(v4) => (v4.ip().to_string(), v4.port()),
        SocketAddr::V6(v6) => (v6.ip().to_string(), v6.port()),
    };
    format!("candidate:{} 1 {protocol} {priority} {ip} {port} typ host{suffix}", index + 1)
}

/// RFC 8866, section 5: lines end with CR and LF.
fn line(sdp: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = write!(sdp, "{text}\r\n");
}
