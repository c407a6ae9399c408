//! The offer of a viewer, in the shape of Chromium's.
use std::fmt::Write;
use std::net::SocketAddr;

use super::ice::Credentials;

/// H.264 constrained baseline, level 3.1, `packetization-mode=1`: what every browser offers.
const H264: u8 = 108;
const H264_RTX: u8 = 109;
const OPUS: u8 = 111;
/// The transport-wide number: the server learns when each packet arrived.
pub(super) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
// G.711 is offered beside it, because browsers do and MediaMTX refuses a viewer without when a stream has no sound.

/// An offer to receive one video and one audio track over one transport.
pub(super) fn write(
    credentials: &Credentials,
    fingerprint: &str,
    local: SocketAddr,
    reports_arrivals: bool,
) -> String {
    let Credentials { ufrag, pwd } = credentials;
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
         a=candidate:1 1 udp 2130706431 {} {} typ host generation 0\r\na=end-of-candidates\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=ice-options:trickle\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n",
        local.ip(),
        local.port(),
    );
    let mut sdp = format!(
        "v=0\r\no=- {} 2 IN {family} {}\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS\r\n",
        rand::random::<u64>() >> 2,
        local.ip(),
    );
    let offered = |line: String| if reports_arrivals { line + "\r\n" } else { String::new() };
    let extension = offered(format!("a=extmap:4 {TRANSPORT_CC}"));
    let [video_reports, audio_reports] =
        [H264, OPUS].map(|pt| offered(format!("a=rtcp-fb:{pt} transport-cc")));
    let written = write!(
        sdp,
        "m=video 9 UDP/TLS/RTP/SAVPF {H264} {H264_RTX}\r\n{transport}a=mid:0\r\n\
         {extension}a=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=rtpmap:{H264} H264/90000\r\n{video_reports}a=rtcp-fb:{H264} ccm fir\r\na=rtcp-fb:{H264} nack\r\n\
         a=rtcp-fb:{H264} nack pli\r\n\
         a=fmtp:{H264} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
         a=rtpmap:{H264_RTX} rtx/90000\r\na=fmtp:{H264_RTX} apt={H264}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF {OPUS} 0 8\r\n{transport}a=mid:1\r\n\
         {extension}a=recvonly\r\na=rtcp-mux\r\na=rtpmap:{OPUS} opus/48000/2\r\n\
         {audio_reports}\
         a=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n",
    );
    debug_assert!(written.is_ok(), "a String takes everything");
    sdp
}
