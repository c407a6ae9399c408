//! The server's address, and a host for each viewer behind a link with a queue.
use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::namespace::{Host, run};

/// The server's address, which no viewer's link is part of: each reaches it through its own.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);
/// Bytes that a link lets through at once (tc-tbf(8)): four packets.
const BURST: &str = "5kb";
/// Viewers at once: their numbers are one byte of an address.
pub(super) const VIEWERS_MAX: u8 = 100;

/// Gives this side of all links the server's address.
pub(super) fn take_address() -> anyhow::Result<()> {
    run("ip", &format!("addr add {SERVER}/32 dev lo")).map(drop)
}

/// What a link does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    pub(super) kbps: u64,
    pub(super) queue_ms: u64,
}

/// A viewer's host, and the link from the server to it. The way back is free.
#[derive(Debug)]
pub(super) struct Bottleneck {
    number: u8,
    host: Host,
}

impl Bottleneck {
    pub(super) fn open(number: u8, quality: Quality) -> anyhow::Result<Self> {
        ensure!(number < VIEWERS_MAX, "{VIEWERS_MAX} viewers at once are the most");
        let this = Self { number, host: Host::open(&format!("viewer{number}"))? };
        let ours = this.device();
        let Quality { kbps, queue_ms } = quality;
        this.host.connect(&ours, "viewer")?;
        run("ip", &format!("addr add 10.77.{number}.1/30 dev {ours}"))?;
        this.host.ip(&format!("addr add 10.77.{number}.2/30 dev viewer"))?;
        this.host.ip(&format!("route add default via 10.77.{number}.1"))?;
        run(
            "tc",
            &format!("qdisc add dev {ours} root tbf rate {kbps}kbit burst {BURST} latency {queue_ms}ms"),
        )?;
        Ok(this)
    }

    /// What a shell runs to have `command` on the viewer's side.
    pub(super) fn within(&self, command: &str) -> String {
        self.host.within(command)
    }

    /// Packets that found the queue full so far.
    pub(super) fn dropped(&self) -> anyhow::Result<u64> {
        let text = run("tc", &format!("-s -j qdisc show dev {}", self.device()))?;
        let found: Value = serde_json::from_str(&text).context("tc")?;
        found.pointer("/0/drops").and_then(Value::as_u64).context("tc tells no drops")
    }

    fn device(&self) -> String {
        format!("server{}", self.number)
    }
}

impl Drop for Bottleneck {
    fn drop(&mut self) {
        // A namespace goes some time after its name, and the next one with this number wants the device.
        let _ = run("ip", &format!("link del {}", self.device()));
    }
}
