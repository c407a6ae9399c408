//! What a node carries and can carry.
use std::collections::HashMap;

use agent::{Audience, Sent};
use control::api::Playback;

/// What an interface is taken to send that does not say.
const SPEED_USUAL_MBPS: u64 = 10_000;

/// The viewers of the WHEP side, for reports.
pub(crate) struct Viewers(pub(crate) whep_node::Audience);

impl Audience for Viewers {
    fn viewers(&self, class: &str) -> u32 {
        self.0.viewers(class)
    }

    fn playbacks(&self) -> HashMap<String, Playback> {
        self.0.playbacks()
    }

    fn joins_by(&self, coordinator: &str) -> u64 {
        self.0.joins_by(coordinator)
    }

    fn sent(&self) -> Sent {
        let counters = self.0.counters();
        Sent {
            bytes: counters.bytes.value(),
            packets: counters.packets.value(),
            refused: counters.send_dropped.value() + counters.send_refused.value(),
        }
    }
}

/// What this machine can send, bits a second: what is set, or the speed of its fastest interface.
pub(crate) fn capacity_bps(set_mbps: u64) -> u64 {
    let mbps = if set_mbps > 0 { set_mbps } else { interface_mbps().unwrap_or(SPEED_USUAL_MBPS) };
    mbps.saturating_mul(1_000_000)
}

fn interface_mbps() -> Option<u64> {
    let interfaces = std::fs::read_dir("/sys/class/net").ok()?;
    // Wireless and virtual ones do not say, or say -1.
    let speed = |interface: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(interface.ok()?.path().join("speed")).ok()?;
        text.trim().parse::<u64>().ok().filter(|mbps| *mbps > 0)
    };
    interfaces.filter_map(speed).max()
}
