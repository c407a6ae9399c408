//! WebRTC egress: offer and answer, ICE-lite, DTLS, SRTP, and the shards that send.
