//! A door to the inner loops of a shard, for the instruction counts in `benches/`. Not part of the interface.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use dimpl::SrtpProfile;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rtp::{HEADER_LEN, Packets};

use crate::batch::{Batch, Path};
use crate::ring::Ring;
use crate::sdp::{Credentials, Fingerprint, Terms, VideoTerms};
use crate::srtp::Srtp;
use crate::viewer::{Out, Viewer};

/// Whoever is sent to: nothing leaves the process.
const PATH: Path = Path::Udp {
    peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9),
    local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
};
const SSRC: u32 = 7;

/// The cipher of one viewer alone.
#[derive(Debug)]
pub struct Sealer {
    srtp: Srtp,
    arena: Vec<u8>,
}

impl Default for Sealer {
    fn default() -> Self {
        Self { srtp: srtp(), arena: Vec::new() }
    }
}

impl Sealer {
    /// Seals `packet` as `count` packets in a row, in arenas of a pass. Returns the bytes that this makes.
    pub fn seal(&mut self, packet: &[u8], count: usize) -> usize {
        let mut bytes = 0;
        for index in 0..count as u64 {
            if self.arena.len() >= 64 * packet.len() {
                self.arena.clear();
            }
            let start = self.arena.len();
            self.arena.extend_from_slice(packet);
            self.srtp
                .protect_rtp(&mut self.arena, start, HEADER_LEN, SSRC, index)
                .expect("the packet has a header");
            bytes += self.arena.len() - start;
        }
        self.arena.clear();
        bytes
    }
}

/// All that one viewer's video takes, up to the system call.
#[derive(Debug)]
pub struct Watcher {
    srtp: Srtp,
    batch: Batch,
    terms: Terms,
    ring: Ring,
    viewer: Viewer,
}

impl Default for Watcher {
    fn default() -> Self {
        let video = VideoTerms {
            mid: "0".to_owned(),
            pt: 102,
            ssrc: SSRC,
            rtx: None,
            nack: true,
            playout_delay_id: Some(6),
            transport_cc_id: None,
        };
        let terms = Terms {
            remote: Credentials { ufrag: String::new(), pwd: String::new() },
            remote_fingerprint: Fingerprint::new([0; 32]),
            video: Some(video),
            audio: None,
        };
        let viewer = viewer(Instant::now(), &terms);
        Self { srtp: srtp(), batch: Batch::default(), terms, ring: Ring::default(), viewer }
    }
}

impl Watcher {
    /// Lets another viewer come in the place of the one that is there, to a stream that has just begun.
    pub fn join(&mut self, now: Instant) {
        self.ring = Ring::default();
        self.viewer = viewer(now, &self.terms);
    }

    /// Sends a frame as it arrives. Returns the packets that this makes.
    pub fn watch(&mut self, frame: Packets) -> usize {
        let (mut next, before) = (Some(frame.arrival), self.viewer.stats.packets);
        self.ring.push(Arc::new(frame));
        while let Some(now) = next {
            let mut out = Out { srtp: &mut self.srtp, path: PATH, batch: &mut self.batch };
            next = self.viewer.send_video(now, &self.ring, &mut out);
        }
        self.batch.clear();
        usize::try_from(self.viewer.stats.packets - before).unwrap_or(usize::MAX)
    }
}

fn viewer(now: Instant, terms: &Terms) -> Viewer {
    Viewer::new(now, terms, 32, &mut StdRng::seed_from_u64(1))
}

fn srtp() -> Srtp {
    Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[0; 2 * (16 + 12)]).expect("the lengths of the profile")
}
