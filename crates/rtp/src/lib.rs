//! Packetisers for H.264 and Opus, the RTP header and RTCP.
//!
//! A frame is packetised once per stream into [`Packets`]; what differs between viewers (sequence number, timestamp,
//! SSRC, payload type) is written per viewer in front of the shared payload.
#![forbid(unsafe_code)]

pub mod h264;
mod header;
pub mod opus;
mod packets;
pub mod rtcp;
pub mod transport_cc;

pub use header::{HEADER_LEN, Header, PlayoutDelay, TransportNumber};
pub use packets::Packets;

/// Bytes of one RTP payload at most, so that header (12), one extension (8), original sequence number of a retransmission (2)
/// and the tag of AES-GCM (16) stay within a UDP payload of 1,200 bytes, which libwebrtc itself uses; with both extensions
/// (12) it is 1,202, well within the smallest MTU of IPv6 (1,280 with 48 bytes of headers).
pub const PAYLOAD_MAX: usize = 1160;
