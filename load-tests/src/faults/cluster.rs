//! A coordinator, its nodes and a publisher, as processes of this machine.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::compare::group::Group;

/// How long a process may take until it is ready, or has ended.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// So many viewers of the lesson are a tenth of a node, which is what one stream has of it before it takes another.
const VIEWERS_PER_SLICE: u64 = 60;
/// Bits a second of the lesson: small, so that this machine has time for many viewers.
const PACKETS_PER_SECOND: u64 = 40;
const PAYLOAD_BYTES: u64 = 500;

/// A process and where it is.
#[derive(Debug)]
struct Running {
    group: Group,
    ready: Value,
}

impl Running {
    fn start(command: &str, file: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(file);
        let mut group = Group::start(command, &[], None)?;
        let ready = wait("a process", || {
            ensure!(group.status()?.is_none(), "{command} has ended");
            Ok(std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
        })?;
        Ok(Self { group, ready })
    }

    fn field(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_default()
    }
}

/// What runs.
#[derive(Debug)]
pub(super) struct Cluster {
    lectern: PathBuf,
    own: PathBuf,
    folder: TempDir,
    coordinator: Option<Running>,
    /// The port at which the coordinator comes back.
    http: String,
    nodes: BTreeMap<String, Running>,
    publisher: Option<Group>,
}

impl Cluster {
    /// A coordinator with nodes that nobody publishes to.
    pub(super) fn start(lectern: &Path, nodes: &[&str]) -> anyhow::Result<Self> {
        let mut cluster = Self {
            lectern: lectern.canonicalize().with_context(|| format!("{} is missing", lectern.display()))?,
            own: std::env::current_exe()?,
            folder: TempDir::new()?,
            coordinator: None,
            http: "0".to_owned(),
            nodes: BTreeMap::new(),
            publisher: None,
        };
        cluster.start_coordinator()?;
        nodes.iter().try_for_each(|name| cluster.start_node(name))?;
        Ok(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, role: &str, name: &str, http_port: &str) -> String {
        let limits = "LECTERN__COORDINATOR__TOKENS_AT_ONCE=100000 LECTERN__WHEP__REQUESTS_AT_ONCE=100000 \
                      LECTERN__WHEP__REQUESTS_PER_SECOND=100000";
        let bps = VIEWERS_PER_SLICE * PACKETS_PER_SECOND * PAYLOAD_BYTES * 8;
        let capacity = format!("LECTERN__NODE__CAPACITY_MBPS={}", bps * 10 / 1_000_000);
        let ports =
            ["rtmp", "rtmps", "whep", "media", "admin", "link"].map(|port| format!("--{port}-port 0"));
        format!(
            "exec env LECTERN_LOG=warn {limits} {capacity} {} {role} --open --bind 127.0.0.1 --http-port {http_port} {} \
             --data-dir {} --ready-file {} 2>>{}",
            self.lectern.display(),
            ports.join(" "),
            self.path(name).display(),
            self.path(&format!("{name}.json")).display(),
            self.path("log").display(),
        )
    }

    pub(super) fn start_coordinator(&mut self) -> anyhow::Result<()> {
        let command = self.command("coordinator", "coordinator", &self.http);
        let running = Running::start(&command, &self.path("coordinator.json"))?;
        running.field("http").rsplit(':').next().unwrap_or_default().clone_into(&mut self.http);
        self.coordinator = Some(running);
        Ok(())
    }

    /// As if its power were cut.
    pub(super) fn kill_coordinator(&mut self) {
        if let Some(running) = self.coordinator.take() {
            running.group.kill();
        }
    }

    /// A node that joins, or comes back.
    pub(super) fn start_node(&mut self, name: &str) -> anyhow::Result<()> {
        let secret = std::fs::read_to_string(self.path("coordinator").join("node-secret"))?;
        let role =
            format!("node join http://127.0.0.1:{} --secret {} --name {name}", self.http, secret.trim());
        let running = Running::start(&self.command(&role, name, "0"), &self.path(&format!("{name}.json")))?;
        self.nodes.insert(name.to_owned(), running);
        Ok(())
    }

    pub(super) fn kill_node(&mut self, name: &str) -> anyhow::Result<()> {
        self.nodes.remove(name).context("there is no such node")?.group.kill();
        Ok(())
    }

    /// Lets a node drain, and returns how long it took to end.
    pub(super) fn drain(&mut self, name: &str) -> anyhow::Result<Duration> {
        let mut node = self.nodes.remove(name).context("there is no such node")?;
        let began = Instant::now();
        node.group.signal("TERM");
        wait("a node that drains", || Ok(node.group.status()?))?;
        Ok(began.elapsed())
    }

    /// Somebody publishes to a node; whoever did before ends.
    pub(super) fn publish(&mut self, name: &str) -> anyhow::Result<()> {
        self.publisher = None;
        let rtmp = self.nodes.get(name).context("there is no such node")?.field("rtmp_url").to_owned();
        let key = std::fs::read_to_string(self.path("coordinator").join("stream-key"))?;
        let command = format!(
            "exec {} publish --rtmp {rtmp}/{} --synthetic --packets-per-second {PACKETS_PER_SECOND} \
             --payload {PAYLOAD_BYTES} --keyframe-packets 10 --duration 1h",
            self.own.display(),
            key.trim(),
        );
        self.publisher = Some(Group::start(&command, &[], None)?);
        Ok(())
    }

    pub(super) fn token_url(&self) -> String {
        let class = self.coordinator.as_ref().map_or("lesson", |running| running.field("class"));
        let class = if class.is_empty() { "lesson" } else { class };
        format!("http://127.0.0.1:{}/api/token?user_type=student&user_id=s{{n}}&class_id={class}", self.http)
    }

    /// How many watch at each node, by its metrics.
    pub(super) fn viewers(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let count = |(name, node): (&String, &Running)| {
            let text = http_get(node.field("admin"), "/metrics")?;
            let viewers = text.lines().filter(|line| line.starts_with("lectern_rtc_viewers{"));
            let viewers = viewers.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let viewers = viewers.sum::<f64>() as u64;
            Ok((name.clone(), viewers))
        };
        self.nodes.iter().map(count).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nobody waits for them to drain.
        let nodes = std::mem::take(&mut self.nodes).into_values().chain(self.coordinator.take());
        nodes.for_each(|running| running.group.kill());
    }
}

/// One request, as the page of metrics needs no more.
fn http_get(address: &str, path: &str) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Looks until something is there.
pub(super) fn wait<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what} takes longer than {} s", TIMEOUT.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
