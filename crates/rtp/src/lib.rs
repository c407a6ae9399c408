//! Packetisers for H.264 and Opus, the RTP header and RTCP.
