//! What nodes carry, from their metrics instead of their heartbeats.
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use control::api::{Heartbeat, NodeLoad, StreamState};
use control::{Client, Problem};
use coordinator::{Config, LoadSource, Mode};
use process::drain::Draining;
use process::{accept, admin};
use prometheus::{GaugeVec, Opts, Registry};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Process, until};
use tokio_util::sync::CancellationToken;

use crate::nodes::{claims, join, request};
use crate::running::{Running, config, heartbeat, next_seq, start_with};

const CAPACITY_BPS: u64 = 1_000_000_000;
/// From the start of everything to the first figures that count: Prometheus scrapes every second here, and is asked every five.
const TAKEN: Duration = Duration::from_secs(40);
/// When every node here began.
const STARTED_AT_MS: u64 = 1_795_338_000_123;

/// The operators' port of a node, and what it shows there.
struct Metrics {
    address: SocketAddr,
    bits: GaugeVec,
    share: GaugeVec,
    seq: GaugeVec,
    joins: GaugeVec,
    end: CancellationToken,
}

impl Metrics {
    fn start(node: &str) -> Self {
        let registry = Registry::new();
        let gauges = |name: &str, labels: &[&str]| {
            let gauges =
                GaugeVec::new(Opts::new(format!("lectern_node_{name}"), "shown by nodes"), labels).unwrap();
            registry.register(Box::new(gauges.clone())).unwrap();
            gauges
        };
        let (bits, share) = (gauges("bits_per_second", &["node", "of"]), gauges("share", &["node", "of"]));
        let (seq, joins) = (gauges("report_seq", &["node"]), gauges("joins_seen", &["node", "coordinator"]));
        let start = Duration::from_millis(STARTED_AT_MS).as_secs_f64();
        gauges("start_time_seconds", &["node"]).with_label_values(&[node]).set(start);
        let bound = admin::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = bound.local_addr();
        let [leaving, failed, end] = std::array::from_fn(|_| CancellationToken::new());
        let metrics = accept::Metrics::new(&registry).unwrap();
        let draining = Draining::new(Duration::from_secs(30));
        tokio::spawn(bound.run(admin::Context { registry, metrics, leaving, failed, draining }, end.clone()));
        Self { address, bits, share, seq, joins, end }
    }

    /// Shows a report that is newer than every heartbeat of this test.
    fn show(&self, node: &str, coordinator: &str, load_bps: u64) {
        let bits = [("load", load_bps), ("egress", 0), ("capacity", CAPACITY_BPS)];
        let float = |bps: u64| f64::from(u32::try_from(bps).unwrap());
        bits.iter().for_each(|(of, bps)| self.bits.with_label_values(&[node, of]).set(float(*bps)));
        ["cpu", "loss"].iter().for_each(|of| self.share.with_label_values(&[node, of]).set(0.0));
        self.joins.with_label_values(&[node, coordinator]).set(0.0);
        self.seq.with_label_values(&[node]).set(float(1_000_000 + next_seq()));
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Two nodes whose heartbeats say that they carry nothing.
struct Cluster {
    running: Running,
    second: Client,
    metrics: [Metrics; 2],
    session: String,
    coordinator: String,
}

const NAMES: [&str; 2] = ["n1", "node-2"];

impl Cluster {
    async fn start(config: Config, metrics: [Metrics; 2]) -> Self {
        let running = start_with(config).await;
        let second = join(&running, &request(NAMES[1])).await.unwrap().credential;
        let second = Client::new(&running.base, &second).unwrap();
        let session = running.publish(None, &running.key).await.unwrap();
        let mut cluster = Self { running, second, metrics, session, coordinator: String::new() };
        cluster.coordinator = cluster.beat().await;
        cluster
    }

    /// Both say that they are there. Returns the life of the coordinator.
    async fn beat(&self) -> String {
        let beat = |node: &str, at: usize, heartbeat: Heartbeat| Heartbeat {
            node: node.to_owned(),
            started_at_ms: STARTED_AT_MS,
            load: NodeLoad { capacity_bps: CAPACITY_BPS, ..NodeLoad::default() },
            metrics: Some(self.metrics[at].address),
            ..heartbeat
        };
        let first = self.running.report(&self.session, StreamState::Active);
        let answer = self.running.node.heartbeat(&beat(NAMES[0], 0, first)).await.unwrap();
        self.second.heartbeat(&beat(NAMES[1], 1, heartbeat(Vec::new()))).await.unwrap();
        answer.coordinator
    }

    /// Where a viewer is sent.
    async fn node(&self, viewer: usize) -> Result<String, Problem> {
        let query = format!("user_type=student&user_id=s{viewer}&class_id=lesson");
        let (status, answer) = self.running.token(&query, None).await;
        if status != 200 {
            return Err(serde_json::from_value(answer).unwrap());
        }
        Ok(claims(answer["token"].as_str().unwrap())["node"].as_str().unwrap().to_owned())
    }

    /// Loads one node after the other, and sees that viewers go to the other one until they change.
    async fn check(&self) {
        for (full, free) in [(0, 1), (1, 0)] {
            until("the load of a node counts", TAKEN, async || {
                self.beat().await;
                self.metrics[full].show(NAMES[full], &self.coordinator, CAPACITY_BPS);
                self.metrics[free].show(NAMES[free], &self.coordinator, 0);
                let verdict = self.verdict(NAMES[full]).await;
                if verdict == json!("hot") && self.verdict(NAMES[free]).await != json!("hot") {
                    Ok(())
                } else {
                    Err(verdict)
                }
            })
            .await;
            for viewer in 0..20 {
                assert_eq!(self.node(viewer).await.unwrap(), NAMES[free], "viewer {viewer}");
            }
        }
    }

    /// Why or why not a viewer would go to a node now.
    async fn verdict(&self, node: &str) -> Value {
        // A node that it was at is always looked at.
        let path = format!("/api/v1/assign/explain?user_id=ada&class_id=lesson&hint={node}");
        let asked = self.running.operate(reqwest::Method::GET, &path).send().await.unwrap();
        let why: Value = asked.json().await.unwrap();
        let looks = why["candidates"].as_array().unwrap();
        looks.iter().find(|look| look["node"] == node).map_or(Value::Null, |look| look["verdict"].clone())
    }
}

#[tokio::test]
async fn a_coordinator_that_scrapes_sends_nobody_to_a_node_that_is_full() {
    let folder = TempDir::new().unwrap();
    let config = Config { load_source: LoadSource::Scrape, ..config(folder.path(), Mode::Open) };
    let cluster = Cluster::start(config, NAMES.map(Metrics::start)).await;
    cluster.check().await;
    let shown = cluster.running.metrics();
    assert!(!shown.contains("lectern_coordinator_load_reports_total 0\n"), "{shown}");
}

#[tokio::test]
async fn by_heartbeats_alone_what_metrics_say_does_not_matter() {
    let folder = TempDir::new().unwrap();
    let cluster = Cluster::start(config(folder.path(), Mode::Open), NAMES.map(Metrics::start)).await;
    for (metrics, node) in cluster.metrics.iter().zip(NAMES) {
        metrics.show(node, &cluster.coordinator, CAPACITY_BPS);
    }
    let first = cluster.node(0).await.unwrap();
    let mut full = Heartbeat { node: first.clone(), ..heartbeat(Vec::new()) };
    (full.started_at_ms, full.load.load_bps) = (STARTED_AT_MS, CAPACITY_BPS);
    let speaker = if first == NAMES[0] { &cluster.running.node } else { &cluster.second };
    // With its stream, so that the lesson goes on.
    full.streams = cluster.running.report(&cluster.session, StreamState::Active).streams;
    speaker.heartbeat(&full).await.unwrap();
    for viewer in 0..20 {
        assert_ne!(cluster.node(viewer).await.unwrap(), first, "viewer {viewer}");
    }
}

/// Debian's, which scrapes these ports every second. Its address is in the lines that it prints.
fn prometheus(folder: &Path, targets: &[SocketAddr]) -> (Process, SocketAddr) {
    let targets: Vec<_> = targets.iter().map(|target| format!("{:?}", target.to_string())).collect();
    let file = folder.join("prometheus.yml");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: lectern\n  static_configs:\n  - targets: [{}]\n",
        targets.join(", ")
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new("prometheus");
    command.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(folder.join("data"));
    let mut process = Process::start(command.arg("--web.listen-address=127.0.0.1:0"));
    let line = process.wait_for("\"Listening on\"", TAKEN);
    let (_, address) = line.split_once("address=").unwrap();
    (process, address.trim().parse().unwrap())
}

#[tokio::test]
async fn a_coordinator_that_asks_prometheus_sends_nobody_to_a_node_that_is_full() {
    let folder = TempDir::new().unwrap();
    let metrics = NAMES.map(Metrics::start);
    let targets = metrics.each_ref().map(|metrics| metrics.address);
    let (mut server, address) = prometheus(folder.path(), &targets);
    let data = folder.path().join("coordinator");
    let prometheus_url = format!("http://{address}");
    let load_source = LoadSource::Prometheus;
    let config = Config { load_source, prometheus_url, ..config(&data, Mode::Open) };
    let cluster = Cluster::start(config, metrics).await;
    cluster.check().await;
    // Without it, viewers come as before.
    server.kill();
    for viewer in 20..40 {
        cluster.beat().await;
        assert_eq!(cluster.node(viewer).await.unwrap(), NAMES[0], "viewer {viewer}");
    }
}
