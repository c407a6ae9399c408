//! A network of our own: the server's namespace, and one for each viewer behind a link with a queue.
//!
//! Names and mounts are this process's own: they go with the last process inside, and the machine's network is not touched.
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// In the environment of the program that runs inside.
const INSIDE: &str = "LECTERN_LOAD_INSIDE";
/// Where `ip netns` keeps names (ip-netns(8)).
const NAMES: &str = "/run/netns";
/// The server's address, which no viewer's link is part of: each reaches it through its own.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);
/// Bytes that a link lets through at once (tc-tbf(8)): four packets.
const BURST: &str = "5kb";
/// Viewers at once: their numbers are one byte of an address.
pub(super) const VIEWERS_MAX: u8 = 100;

/// Moves this program into a network of its own by starting it again there. `Err` says why that cannot be.
pub(super) fn enter() -> anyhow::Result<Result<(), String>> {
    if std::env::var_os(INSIDE).is_some() {
        std::fs::create_dir_all(NAMES)?;
        run("mount", "-t tmpfs none /run/netns")?;
        run("ip", "link set lo up")?;
        run("ip", &format!("addr add {SERVER}/32 dev lo"))?;
        return Ok(Ok(()));
    }
    for (program, arguments) in [("unshare", "--net --mount true"), ("ip", "-V"), ("tc", "-V")] {
        if let Err(error) = run(program, arguments) {
            return Ok(Err(format!("no network namespaces here: {error:#}")));
        }
    }
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("unshare")
}

/// What a link does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    pub(super) kbps: u64,
    pub(super) queue_ms: u64,
}

/// A viewer's namespace, and the link from the server to it. The way back is free.
#[derive(Debug)]
pub(super) struct Bottleneck {
    number: u8,
}

impl Bottleneck {
    pub(super) fn open(number: u8, quality: Quality) -> anyhow::Result<Self> {
        ensure!(number < VIEWERS_MAX, "{VIEWERS_MAX} viewers at once are the most");
        let this = Self { number };
        let (name, ours) = (this.name(), this.device());
        let Quality { kbps, queue_ms } = quality;
        run("ip", &format!("netns add {name}"))?;
        for arguments in [
            format!("link add {ours} type veth peer name viewer netns {name}"),
            format!("addr add 10.77.{number}.1/30 dev {ours}"),
            format!("link set {ours} up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} addr add 10.77.{number}.2/30 dev viewer"),
            format!("-n {name} link set viewer up"),
            format!("-n {name} route add default via 10.77.{number}.1"),
        ] {
            run("ip", &arguments)?;
        }
        run(
            "tc",
            &format!("qdisc add dev {ours} root tbf rate {kbps}kbit burst {BURST} latency {queue_ms}ms"),
        )?;
        Ok(this)
    }

    /// What a shell runs to have `program` on the viewer's side.
    pub(super) fn command(&self, program: &Path) -> String {
        format!("ip netns exec {} {}", self.name(), program.display())
    }

    /// Packets that found the queue full so far.
    pub(super) fn dropped(&self) -> anyhow::Result<u64> {
        let text = run("tc", &format!("-s -j qdisc show dev {}", self.device()))?;
        let found: Value = serde_json::from_str(&text).context("tc")?;
        found.pointer("/0/drops").and_then(Value::as_u64).context("tc tells no drops")
    }

    fn name(&self) -> String {
        format!("viewer{}", self.number)
    }

    fn device(&self) -> String {
        format!("server{}", self.number)
    }
}

impl Drop for Bottleneck {
    fn drop(&mut self) {
        let _ = run("ip", &format!("link del {}", self.device()));
        let _ = run("ip", &format!("netns del {}", self.name()));
    }
}

/// Runs a program to its end and returns what it printed.
fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
