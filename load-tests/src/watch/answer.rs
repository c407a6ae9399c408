//! What a viewer needs of the server's answer (RFC 8866, RFC 8839, RFC 8842).
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::ice::Credentials;
use super::offer::TRANSPORT_CC;

/// Lines that are read; an answer to two tracks has a hundred.
const LINES_MAX: usize = 1000;
/// Candidates that are kept.
const CANDIDATES_MAX: usize = 32;
/// RFC 3551: payload types have 7 bits.
const PAYLOAD_TYPES: usize = 128;

/// Why an answer is of no use.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum AnswerError {
    #[error("the answer has no ICE credentials")]
    Credentials,
    #[error("the answer has no SHA-256 fingerprint")]
    Fingerprint,
    #[error("the answer has no UDP candidate with an address")]
    Candidate,
    #[error("the answer accepts neither H.264 nor Opus")]
    Media,
}

/// What the payload type of a packet means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Payload {
    #[default]
    Unknown,
    Video,
    /// RFC 4588: a packet of video that is sent again.
    VideoAgain,
    Audio,
}

/// The server's side of the transport, and its tracks.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) credentials: Credentials,
    /// SHA-256 of the certificate.
    pub(super) fingerprint: [u8; 32],
    /// The server waits for our DTLS handshake.
    pub(super) is_passive: bool,
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) has_video: bool,
    /// Lost packets of video may be asked for.
    pub(super) video_nack: bool,
    /// The id of the transport-wide number, if the server asks for reports of arrivals.
    pub(super) transport_cc_id: Option<u8>,
    payloads: [Payload; PAYLOAD_TYPES],
}

impl Answer {
    /// Reads an answer; what is not needed is skipped.
    pub(super) fn parse(sdp: &str) -> Result<Self, AnswerError> {
        let mut draft = Draft::default();
        for line in sdp.lines().take(LINES_MAX) {
            if let Some(media) = line.strip_prefix("m=") {
                draft.on_media(media);
            } else if let Some(attribute) = line.strip_prefix("a=") {
                draft.on_attribute(attribute.trim_end());
            }
        }
        let (ufrag, pwd) = draft.ufrag.zip(draft.pwd).ok_or(AnswerError::Credentials)?;
        if draft.candidates.is_empty() {
            return Err(AnswerError::Candidate);
        }
        if draft.payloads.iter().all(|payload| *payload == Payload::Unknown) {
            return Err(AnswerError::Media);
        }
        Ok(Self {
            credentials: Credentials { ufrag, pwd },
            fingerprint: draft.fingerprint.ok_or(AnswerError::Fingerprint)?,
            is_passive: !draft.is_active,
            candidates: draft.candidates,
            has_video: draft.payloads.contains(&Payload::Video),
            video_nack: draft.video_nack,
            transport_cc_id: draft.transport_cc_id.filter(|_| draft.reports_arrivals),
            payloads: draft.payloads,
        })
    }

    pub(super) fn payload(&self, payload_type: u8) -> Payload {
        self.payloads.get(usize::from(payload_type)).copied().unwrap_or_default()
    }

    /// The candidate to use: the one with the address that answered over HTTP, else the first.
    pub(super) fn candidate(&self, asked: Option<IpAddr>) -> Option<SocketAddr> {
        let same = self.candidates.iter().find(|candidate| Some(candidate.ip()) == asked);
        same.or(self.candidates.first()).copied()
    }
}

#[derive(Debug)]
struct Draft {
    section: Section,
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprint: Option<[u8; 32]>,
    is_active: bool,
    candidates: Vec<SocketAddr>,
    video_nack: bool,
    transport_cc_id: Option<u8>,
    reports_arrivals: bool,
    payloads: [Payload; PAYLOAD_TYPES],
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            section: Section::Session,
            ufrag: None,
            pwd: None,
            fingerprint: None,
            is_active: false,
            candidates: Vec::new(),
            video_nack: false,
            transport_cc_id: None,
            reports_arrivals: false,
            payloads: [Payload::Unknown; PAYLOAD_TYPES],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Session,
    Video,
    Audio,
    /// Refused, or nothing that we asked for.
    Other,
}

impl Draft {
    fn on_media(&mut self, media: &str) {
        let mut words = media.split_whitespace();
        let (kind, port) = (words.next(), words.next());
        self.section = match kind {
            _ if port == Some("0") => Section::Other,
            Some("video") => Section::Video,
            Some("audio") => Section::Audio,
            _ => Section::Other,
        };
    }

    fn on_attribute(&mut self, attribute: &str) {
        if self.section == Section::Other {
            return;
        }
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            // Everything is in one bundle, so the first transport is the transport.
            "ice-ufrag" => _ = self.ufrag.get_or_insert_with(|| value.to_owned()),
            "ice-pwd" => _ = self.pwd.get_or_insert_with(|| value.to_owned()),
            "fingerprint" if self.fingerprint.is_none() => self.fingerprint = fingerprint(value),
            "setup" => self.is_active = value == "active",
            "candidate" if self.candidates.len() < CANDIDATES_MAX => {
                self.candidates.extend(candidate(value).filter(|found| !self.candidates.contains(found)));
            }
            "rtpmap" => self.on_rtpmap(value),
            "rtcp-fb" => {
                let feedback = value.split_whitespace().skip(1);
                self.reports_arrivals |= feedback.clone().eq(["transport-cc"]);
                self.video_nack |= self.section == Section::Video && feedback.eq(["nack"]);
            }
            "extmap" => {
                if let Some((id, TRANSPORT_CC)) = value.split_once(' ') {
                    // RFC 8285, section 4.2: ids of one byte, perhaps with a direction behind them.
                    let id = id.split('/').next().and_then(|id| id.parse().ok());
                    self.transport_cc_id = id.filter(|id| (1..=14).contains(id)).or(self.transport_cc_id);
                }
            }
            _ => {}
        }
    }

    fn on_rtpmap(&mut self, value: &str) {
        let Some((number, encoding)) = value.split_once(' ') else { return };
        let name = encoding.split('/').next().unwrap_or("").trim().to_ascii_lowercase();
        let payload = match (self.section, name.as_str()) {
            (Section::Video, "h264") => Payload::Video,
            (Section::Video, "rtx") => Payload::VideoAgain,
            (Section::Audio, "opus") => Payload::Audio,
            _ => return,
        };
        if let Some(slot) = number.parse().ok().and_then(|number: usize| self.payloads.get_mut(number)) {
            *slot = payload;
        }
    }
}

/// RFC 8839, section 5.1: `foundation component transport priority address port typ type`.
fn candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split_whitespace().take(8).collect();
    let [_, component, transport, _, address, port, "typ", "host" | "srflx"] = words[..] else { return None };
    let address: IpAddr = address.parse().ok()?;
    let is_usable = component == "1" && transport.eq_ignore_ascii_case("udp") && !address.is_unspecified();
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_usable.then_some(SocketAddr::new(address, port))
}

/// RFC 8122, section 5.
fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let (algorithm, digits) = value.split_once(' ')?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let bytes: Vec<u8> =
        digits.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 108 109\r\na=ice-ufrag:0abc\r\na=ice-pwd:0123456789012345678901\r\n\
        a=fingerprint:sha-256 4E:AD:1F:0D:53:C3:6B:2F:1D:3B:9E:7C:5A:00:12:34:56:78:9A:BC:DE:F0:11:22:33:44:55:66:77:88:99:AA\r\n\
        a=setup:passive\r\na=candidate:1 1 tcp 99 192.0.2.1 9 typ host tcptype passive\r\n\
        a=candidate:2 1 UDP 99 192.0.2.1 8189 typ host\r\na=candidate:3 1 udp 98 198.51.100.1 8189 typ host generation 0\r\n\
        a=rtpmap:108 H264/90000\r\na=rtcp-fb:108 nack\r\na=rtcp-fb:108 nack pli\r\na=rtpmap:109 rtx/90000\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n";

    #[test]
    fn an_answer_is_understood() {
        let answer = Answer::parse(ANSWER).unwrap();
        assert_eq!(answer.credentials.ufrag, "0abc");
        assert!(answer.is_passive && answer.has_video && answer.video_nack);
        assert_eq!(answer.transport_cc_id, None);
        let feedback = "a=rtcp-fb:108 transport-cc\r\n";
        let reporting = ANSWER
            .replace("a=rtcp-fb:108 nack\r\n", &format!("{feedback}a=extmap:4/sendrecv {TRANSPORT_CC}\r\n"));
        assert_eq!(Answer::parse(&reporting).unwrap().transport_cc_id, Some(4));
        assert_eq!(Answer::parse(&reporting.replace(feedback, "")).unwrap().transport_cc_id, None);
        assert_eq!(answer.candidate(None), Some("192.0.2.1:8189".parse().unwrap()));
        let asked = "198.51.100.1".parse().unwrap();
        assert_eq!(answer.candidate(Some(asked)), Some("198.51.100.1:8189".parse().unwrap()));
        let payloads = [108, 109, 111, 0, 255].map(|number| answer.payload(number));
        let expected =
            [Payload::Video, Payload::VideoAgain, Payload::Audio, Payload::Unknown, Payload::Unknown];
        assert_eq!(payloads, expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |what: &str| {
            let kept: Vec<&str> = ANSWER.lines().filter(|line| !line.starts_with(what)).collect();
            Answer::parse(&kept.join("\n")).unwrap_err()
        };
        assert_eq!(without("a=ice-pwd"), AnswerError::Credentials);
        assert_eq!(without("a=fingerprint"), AnswerError::Fingerprint);
        assert_eq!(without("a=candidate"), AnswerError::Candidate);
        assert_eq!(without("a=rtpmap"), AnswerError::Media);
    }

    #[test]
    fn an_answer_cut_anywhere_does_no_harm() {
        for len in 0..ANSWER.len() {
            let _ = Answer::parse(&ANSWER[..len]);
        }
    }
}
