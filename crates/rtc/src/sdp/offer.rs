//! The offer, read.
use super::codec::{Codec, Extension};
use super::{Credentials, Fingerprint, OfferError, SDP_BYTES_MAX};

/// Media sections that are looked at. A viewer needs two; conferencing libraries offer a few more.
const SECTIONS_MAX: usize = 32;
/// Payload types of one section; there are only 128 (RFC 3551).
const CODECS_MAX: usize = 128;
/// Header extensions of one section.
const EXTENSIONS_MAX: usize = 64;
/// RFC 8839, section 5.4: the lengths of credentials.
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_LEN: std::ops::RangeInclusive<usize> = 22..=256;
/// A section's tag (RFC 5888) is repeated in the answer, so it must stay small.
const MID_LEN_MAX: usize = 32;

/// A viewer's offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub(super) session: Attributes,
    /// It answers connectivity checks and sends none (RFC 8445, section 2.5).
    pub(super) is_lite: bool,
    pub(super) sections: Vec<Section>,
    /// Tags of the bundle group (RFC 9143).
    pub(super) bundle: Vec<String>,
}

/// One `m=` line and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: Kind,
    /// `m=` line without `m=`, as it came: a rejected section repeats kind, protocol and formats.
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) formats: Vec<String>,
    pub(super) is_rejected: bool,
    pub(super) mid: Option<String>,
    pub(super) direction: Direction,
    /// RTCP need not come in compound packets (RFC 5506).
    pub(super) has_reduced_rtcp: bool,
    pub(super) attributes: Attributes,
    pub(super) codecs: Vec<Codec>,
    pub(super) extensions: Vec<Extension>,
}

/// What a section is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Audio,
    Video,
    #[default]
    Other,
}

/// RFC 8866, section 6.7. Without a line of its own a section is `sendrecv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// What may stand at the session or in a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) ufrag: Option<String>,
    pub(super) pwd: Option<String>,
    pub(super) fingerprint: Option<Fingerprint>,
    /// What `a=setup` says, where there is one.
    pub(super) is_passive: Option<bool>,
}

impl Offer {
    /// Reads an offer. Lines that mean nothing here are skipped, as RFC 8866 asks.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        if sdp.len() > SDP_BYTES_MAX {
            return Err(OfferError::TooLarge);
        }
        let mut lines = sdp.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(OfferError::NotSdp);
        }
        let mut offer = Self::default();
        for line in lines {
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
                return Err(OfferError::NotSdp);
            };
            match kind {
                "m" if offer.sections.len() == SECTIONS_MAX => return Err(OfferError::TooManySections),
                "m" => offer.sections.push(Section::parse(value).ok_or(OfferError::NotSdp)?),
                "a" => offer.on_attribute(value),
                _ => {}
            }
        }
        let mids = || offer.sections.iter().filter_map(|section| section.mid.as_ref());
        if mids().enumerate().any(|(index, mid)| mids().take(index).any(|before| before == mid)) {
            return Err(OfferError::DuplicateMid);
        }
        if offer.sections.is_empty() { Err(OfferError::NotSdp) } else { Ok(offer) }
    }

    fn on_attribute(&mut self, attribute: &str) {
        if let Some(section) = self.sections.last_mut() {
            section.on_attribute(attribute);
        } else if attribute == "ice-lite" {
            self.is_lite = true;
        } else if let Some(tags) = attribute.strip_prefix("group:BUNDLE") {
            // One transport means one group; sections of a second one are rejected.
            if self.bundle.is_empty() {
                self.bundle = tags.split_whitespace().map(str::to_owned).take(SECTIONS_MAX).collect();
            }
        } else {
            self.session.on_attribute(attribute);
        }
    }

    /// The section that the group names first; its transport is the group's (RFC 9143, section 7.2).
    pub(super) fn tagged(&self) -> Option<&Section> {
        let tag = self.bundle.first()?;
        self.sections.iter().find(|section| section.mid.as_ref() == Some(tag))
    }

    /// The viewer's credentials, for the transport that `section` stands for.
    pub(super) fn credentials(&self, section: &Section) -> Result<Credentials, OfferError> {
        self.find(section, Attributes::credentials).ok_or(OfferError::NoCredentials)
    }

    /// The viewer's certificate, for the transport that `section` stands for.
    pub(super) fn fingerprint(&self, section: &Section) -> Result<Fingerprint, OfferError> {
        self.find(section, |attributes| attributes.fingerprint).ok_or(OfferError::NoFingerprint)
    }

    /// Whether the viewer wants to be the DTLS server.
    pub(super) fn is_passive(&self, section: &Section) -> bool {
        self.find(section, |attributes| attributes.is_passive).unwrap_or(false)
    }

    /// A value of the transport: the section's own, else the tagged section's, for bundle-only sections leave theirs
    /// out (RFC 9143, section 7.1.3), else the session's.
    fn find<T>(&self, section: &Section, value: impl Fn(&Attributes) -> Option<T>) -> Option<T> {
        let tagged = self.tagged().unwrap_or(section);
        [&section.attributes, &tagged.attributes, &self.session].into_iter().find_map(value)
    }
}

impl Section {
    /// RFC 8866, section 5.14: kind, port, protocol, formats.
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_whitespace();
        let media = words.next()?;
        let port = words.next()?.split('/').next()?;
        let protocol = words.next()?;
        let port: u16 = port.parse().ok()?;
        if !is_token(media) || !protocol.split('/').all(is_token) {
            return None;
        }
        let formats: Vec<String> =
            words.filter(|word| is_token(word)).take(CODECS_MAX).map(str::to_owned).collect();
        let kind = match media {
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            _ => Kind::Other,
        };
        let codecs = formats.iter().filter_map(|format| Codec::new(format)).collect();
        Some(Self {
            kind,
            media: media.to_owned(),
            protocol: protocol.to_owned(),
            formats,
            // Port 0 rejects, except for bundle-only sections (RFC 9143, section 6), which say so in a line of theirs.
            is_rejected: port == 0,
            codecs,
            ..Self::default()
        })
    }

    fn on_attribute(&mut self, attribute: &str) {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "mid" if is_mid(value) => self.mid = Some(value.to_owned()),
            "rtcp-rsize" => self.has_reduced_rtcp = true,
            "bundle-only" => self.is_rejected = false,
            "sendrecv" => self.direction = Direction::SendRecv,
            "sendonly" => self.direction = Direction::SendOnly,
            "recvonly" => self.direction = Direction::RecvOnly,
            "inactive" => self.direction = Direction::Inactive,
            "rtpmap" | "fmtp" | "rtcp-fb" => {
                let Some((format, rest)) = value.split_once(' ') else { return };
                let (pt, is_for_all) = (format.parse().ok(), format == "*");
                for codec in self.codecs.iter_mut().filter(|codec| is_for_all || Some(codec.pt) == pt) {
                    codec.on_attribute(name, rest);
                }
            }
            "extmap" if self.extensions.len() < EXTENSIONS_MAX => {
                self.extensions.extend(Extension::parse(value));
            }
            _ => self.attributes.on_attribute(attribute),
        }
    }

    /// Whether the viewer is willing to receive here.
    pub(super) fn receives(&self) -> bool {
        !self.is_rejected && matches!(self.direction, Direction::RecvOnly | Direction::SendRecv)
    }
}

impl Attributes {
    /// Both halves, which always stand together (RFC 8839, section 5.4).
    fn credentials(&self) -> Option<Credentials> {
        Some(Credentials { ufrag: self.ufrag.clone()?, pwd: self.pwd.clone()? })
    }

    fn on_attribute(&mut self, attribute: &str) {
        let Some((name, value)) = attribute.split_once(':') else { return };
        match name {
            "ice-ufrag" if is_ufrag(value) => self.ufrag = Some(value.to_owned()),
            "ice-pwd" if is_pwd(value) => self.pwd = Some(value.to_owned()),
            // Hashes stand side by side (RFC 8122, section 5); aiortc sends three.
            "fingerprint" => {
                if let Some((hash, text)) = value.split_once(' ')
                    && hash.eq_ignore_ascii_case("sha-256")
                {
                    self.fingerprint = self.fingerprint.or_else(|| Fingerprint::parse(text.trim()));
                }
            }
            "setup" => self.is_passive = Some(value == "passive"),
            _ => {}
        }
    }
}

pub(super) fn is_ufrag(text: &str) -> bool {
    UFRAG_LEN.contains(&text.len()) && text.bytes().all(is_ice_char)
}

pub(super) fn is_pwd(text: &str) -> bool {
    PWD_LEN.contains(&text.len()) && text.bytes().all(is_ice_char)
}

pub(super) fn is_mid(text: &str) -> bool {
    text.len() <= MID_LEN_MAX && is_token(text)
}

/// RFC 8839, section 5.1: the characters of candidates and credentials. Real players add `-` and `_`.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// RFC 8866, section 9: what a name may be made of. Nothing else of an offer comes back in an answer.
pub(super) fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b':' | b'/' | b'='))
}
