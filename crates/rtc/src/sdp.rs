//! Offer and answer of a WHEP session (RFC 8866, RFC 9429, RFC 9725): what a viewer asks for and what it gets.
//!
//! The offer is read into a list of media sections, of which at most one for each kind is accepted; the answer follows
//! the offer line by line, since its order and its rejected sections matter (RFC 3264, section 6).
mod answer;
mod codec;
mod fragment;
mod offer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

use thiserror::Error;

pub use answer::{Answer, Local};
pub use fragment::Fragment;
pub use offer::Offer;

/// Bytes that an offer or a fragment may have. Chromium's offers have about 7 kB.
pub const SDP_BYTES_MAX: usize = 64 << 10;

/// One half of the ICE credentials (RFC 8839, section 5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

/// The SHA-256 fingerprint of a certificate (RFC 8122, section 5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// From the hash of the certificate's DER form.
    pub fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// From upper- or lower-case hexadecimal pairs with colons between them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let mut pairs = text.split(':');
        for byte in &mut hash {
            let pair = pairs.next().filter(|pair| pair.len() == 2)?;
            pair.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        pairs.next().is_none().then_some(Self(hash))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Which way a candidate is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain datagrams.
    Udp,
    /// A connection that the viewer opens (RFC 6544).
    TcpPassive,
}

/// An address of ours that a viewer may check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub addr: SocketAddr,
    /// How.
    pub transport: Transport,
}

/// The synchronisation sources that a viewer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssrcs {
    /// The picture.
    pub video: u32,
    /// The picture's retransmissions.
    pub video_rtx: u32,
    /// The sound.
    pub audio: u32,
}

/// What offer and answer have settled: all that the engine needs to know of a viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The viewer's half of the credentials.
    pub remote: Credentials,
    /// The certificate that its handshake must show.
    pub remote_fingerprint: Fingerprint,
    /// How it gets the picture, if it does.
    pub video: Option<VideoTerms>,
    /// How it gets the sound, if it does.
    pub audio: Option<AudioTerms>,
}

/// How a viewer gets the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTerms {
    /// The identification tag of its section.
    pub mid: String,
    /// Payload type of H.264.
    pub pt: u8,
    /// Our source.
    pub ssrc: u32,
    /// Retransmissions on a source of their own (RFC 4588).
    pub rtx: Option<Rtx>,
    /// The viewer reports lost packets.
    pub nack: bool,
    /// The id of the playout-delay extension, if it is to be sent.
    pub playout_delay_id: Option<u8>,
    /// The id of the transport-wide number, if the viewer can report the arrival of packets that carry one.
    pub transport_cc_id: Option<u8>,
}

/// A source of retransmissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtx {
    /// Its payload type.
    pub pt: u8,
    /// Its source.
    pub ssrc: u32,
}

/// How a viewer gets the sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTerms {
    /// The identification tag of its section.
    pub mid: String,
    /// Payload type of Opus.
    pub pt: u8,
    /// Our source.
    pub ssrc: u32,
}

/// Why an offer cannot be answered. The text is for the developer of the player; it repeats nothing of the offer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OfferError {
    /// It is larger than any offer.
    #[error("the offer is larger than {SDP_BYTES_MAX} bytes")]
    TooLarge,
    /// It does not begin like a session description, or a line of it is not one.
    #[error("the body is not a session description (RFC 8866)")]
    NotSdp,
    /// It has more media sections than a viewer can need.
    #[error("the offer has too many media sections")]
    TooManySections,
    /// No ICE credentials.
    #[error("the offer has no a=ice-ufrag and a=ice-pwd of the lengths that RFC 8839 asks for")]
    NoCredentials,
    /// No certificate fingerprint that we can check.
    #[error("the offer has no SHA-256 a=fingerprint")]
    NoFingerprint,
    /// Nobody can tell which section is meant.
    #[error("two media sections of the offer have the same a=mid")]
    DuplicateMid,
    /// The viewer does not check either.
    #[error("the offer says a=ice-lite, which is our part: one side must send connectivity checks")]
    BothLite,
    /// The viewer wants to be the DTLS server as well.
    #[error("the offer says a=setup:passive, which is our part; use actpass or active")]
    BothPassive,
    /// Picture and sound would need a transport each, and a viewer has one.
    #[error(
        "the offer has several media sections and no a=group:BUNDLE; let them share one transport (bundle policy max-bundle)"
    )]
    NotBundled,
    /// The offer wants a picture and has no H.264, and no sound that could come instead.
    #[error("the offer has no H.264, and no Opus either")]
    NoH264,
    /// Nothing of what a stream can have is wanted.
    #[error("the offer wants to receive nothing that a stream can have: H.264 video, Opus audio")]
    NothingToSend,
}
