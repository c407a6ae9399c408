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
    now: Instant,
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
        Self { srtp: srtp(), batch: Batch::default(), terms, now: Instant::now() }
    }
}

impl Watcher {
    /// Sends a group of pictures, frame by frame, to a viewer that has just come. Returns the packets that this makes.
    pub fn watch(&mut self, group: &[Arc<Packets>]) -> usize {
        let (mut ring, mut viewer) =
            (Ring::default(), Viewer::new(self.now, &self.terms, 32, &mut StdRng::seed_from_u64(1)));
        for frame in group {
            ring.push(Arc::clone(frame));
            let mut next = Some(self.now);
            while let Some(now) = next {
                let mut out = Out { srtp: &mut self.srtp, path: PATH, batch: &mut self.batch };
                next = viewer.send_video(now, &ring, &mut out);
                self.now = now;
            }
            self.now += std::time::Duration::from_millis(33);
            self.batch.clear();
        }
        usize::try_from(viewer.stats.packets).unwrap_or(usize::MAX)
    }
}

fn srtp() -> Srtp {
    Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[0; 2 * (16 + 12)]).expect("the lengths of the profile")
}
