//! Opus into RTP: RFC 7587. A packet of sound is a payload as it is.
use media::{AudioFrame, Track};

use crate::{PAYLOAD_MAX, Packets};

const _: () = assert!(media::opus::PACKET_BYTES_MAX <= PAYLOAD_MAX);

/// Numbers the packets of sound of one stream.
#[derive(Debug, Default)]
pub struct Packetizer {
    packets: u64,
}

impl Packetizer {
    /// The packet of one frame; `None` when it is empty or larger than a datagram may be, which no publisher's is.
    pub fn packetize(&mut self, frame: &AudioFrame) -> Option<Packets> {
        if frame.packet.is_empty() || frame.packet.len() > PAYLOAD_MAX {
            return None;
        }
        let mut packets = Packets::new(Track::Audio, true, frame.time, frame.arrival);
        packets.push(&[&frame.packet]);
        packets.number = self.packets;
        packets.first = self.packets;
        self.packets += 1;
        Some(packets)
    }
}
