//! Codecs and header extensions of an offer, and which of them carries the stream.
use super::offer::is_token;

/// Bytes of a codec's parameters that are kept; the answer repeats some of them.
const FMTP_LEN_MAX: usize = 256;
/// Characters of a codec's name.
const NAME_LEN_MAX: usize = 32;
/// <http://www.webrtc.org/experiments/rtp-hdrext/playout-delay>
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// draft-holmer-rmcat-transport-wide-cc-extensions-01, section 5.
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// A profile-level-id that every browser offers.
pub(super) const CONSTRAINED_BASELINE: [u8; 3] = [0x42, 0xe0, 0x1f];

/// One payload type of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Codec {
    pub(super) pt: u8,
    name: String,
    rate: u32,
    channels: Option<u32>,
    fmtp: Option<String>,
    pub(super) nack: bool,
    pub(super) pli: bool,
    pub(super) fir: bool,
    pub(super) transport_cc: bool,
}

impl Codec {
    pub(super) fn new(format: &str) -> Option<Self> {
        let pt = format.parse().ok().filter(|pt| *pt < 128)?;
        Some(Self { pt, ..Self::default() })
    }

    pub(super) fn on_attribute(&mut self, name: &str, value: &str) {
        match (name, value.trim()) {
            ("rtpmap", value) => {
                let mut parts = value.split('/');
                let name = parts.next().filter(|name| name.len() <= NAME_LEN_MAX && is_token(name));
                self.name = name.unwrap_or("").to_ascii_lowercase();
                self.rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
                self.channels = parts.next().and_then(|channels| channels.parse().ok());
            }
            ("fmtp", value) if value.len() <= FMTP_LEN_MAX => self.fmtp = Some(value.to_owned()),
            ("rtcp-fb", "nack") => self.nack = true,
            ("rtcp-fb", "nack pli") => self.pli = true,
            ("rtcp-fb", "ccm fir") => self.fir = true,
            ("rtcp-fb", "transport-cc") => self.transport_cc = true,
            _ => {}
        }
    }

    /// Name, rate and channels as an `a=rtpmap` line has them; `None` for a payload type that has no such line.
    pub(super) fn encoding(&self) -> Option<String> {
        let channels = self.channels.map(|channels| format!("/{channels}")).unwrap_or_default();
        (!self.name.is_empty()).then(|| format!("{}/{}{channels}", self.name, self.rate))
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.as_deref()?.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// RFC 7587, section 4.1 fixes rate and channels; GStreamer leaves out the latter.
    pub(super) fn is_opus(&self) -> bool {
        self.name == "opus" && self.rate == 48_000 && self.channels.is_none_or(|channels| channels == 2)
    }

    fn is_h264(&self) -> bool {
        self.name == "h264" && self.rate == 90_000
    }

    /// Whether it says that pictures may come in fragments (RFC 6184, section 6.3); a payload type without any parameter is
    /// given the benefit of the doubt.
    fn takes_fragments(&self) -> bool {
        self.parameter("packetization-mode") == Some("1") || self.fmtp.is_none()
    }

    /// The profile-level-id; RFC 6184, section 8.1 says what its absence means.
    fn profile(&self) -> [u8; 3] {
        let text = self.parameter("profile-level-id").filter(|text| text.len() == 6 && text.is_ascii());
        let value = text.and_then(|text| u32::from_str_radix(text, 16).ok());
        let [_, profile, constraints, level] = value.unwrap_or(0x0042_000a).to_be_bytes();
        [profile, constraints, level]
    }

    /// The payload type of the retransmissions of `pt` (RFC 4588, section 8.1).
    fn is_rtx_of(&self, pt: u8) -> bool {
        self.name == "rtx" && self.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(pt)
    }

    /// The parameters with which an answer takes this H.264. The profile is the one offered, for an answer may not
    /// change it (RFC 6184, section 8.2.2); the level is the stream's.
    pub(super) fn h264_answer(&self, level: u8) -> String {
        let [profile, constraints, offered_level] = self.profile();
        let level = level.max(offered_level);
        let mode = if self.takes_fragments() { "packetization-mode=1;" } else { "" };
        format!("level-asymmetry-allowed=1;{mode}profile-level-id={profile:02x}{constraints:02x}{level:02x}")
    }
}

/// The H.264 of an offer that a stream of this profile is best sent as.
///
/// The same profile where it is offered; else constrained baseline, else baseline: browsers that list neither Main nor
/// High decode both all the same, as long as there are no B-frames.
///
/// Last comes what says nothing of fragments, as GStreamer's `whepclientsrc` does. No picture fits a packet without
/// them, and the players that offer it put them together all the same.
pub(super) fn choose_h264(codecs: &[Codec], stream: [u8; 3]) -> Option<&Codec> {
    let rank = |codec: &Codec| match (codec.profile(), stream) {
        (offered, stream) if Profile::of(offered) == Profile::of(stream) => 0,
        (offered, _) if Profile::of(offered) == Profile::ConstrainedBaseline => 1,
        ([0x42, ..], _) => 2,
        _ => 3,
    };
    let h264 = codecs.iter().filter(|codec| codec.is_h264());
    h264.min_by_key(|codec| (!codec.takes_fragments(), rank(codec)))
}

/// What the first two bytes of a profile-level-id mean together (RFC 6184, section 8.1, table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    ConstrainedBaseline,
    /// Any other, by its `profile_idc`; the constraint flags then promise nothing that a decoder could use.
    Other(u8),
}

impl Profile {
    fn of([profile, constraints, _]: [u8; 3]) -> Self {
        match profile {
            0x42 if constraints & 0x40 != 0 => Self::ConstrainedBaseline,
            0x4d if constraints & 0x80 != 0 => Self::ConstrainedBaseline,
            0x58 if constraints & 0xc0 == 0xc0 => Self::ConstrainedBaseline,
            _ => Self::Other(profile),
        }
    }
}

pub(super) fn rtx_of(codecs: &[Codec], pt: u8) -> Option<u8> {
    codecs.iter().find(|codec| codec.is_rtx_of(pt)).map(|codec| codec.pt)
}

/// One `a=extmap` line (RFC 8285, section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) id: u8,
    pub(super) kind: ExtensionKind,
}

/// The header extensions that we may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionKind {
    PlayoutDelay,
    TransportCc,
}

impl Extension {
    /// `None` for one that we never send.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (id, uri) = value.split_once(' ')?;
        let id = id.split('/').next()?.parse().ok().filter(|id| (1..=14).contains(id))?;
        let kind = match uri.split_whitespace().next()? {
            PLAYOUT_DELAY => ExtensionKind::PlayoutDelay,
            TRANSPORT_CC => ExtensionKind::TransportCc,
            _ => return None,
        };
        Some(Self { id, kind })
    }
}

impl ExtensionKind {
    pub(super) fn uri(self) -> &'static str {
        match self {
            Self::PlayoutDelay => PLAYOUT_DELAY,
            Self::TransportCc => TRANSPORT_CC,
        }
    }
}
