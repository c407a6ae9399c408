//! `load_source = "scrape"`: the coordinator fetches the metrics of every node itself.
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control::{ReadError, read_body};
use prometheus_parse::{Scrape, Value};
use reqwest::StatusCode;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::series::{Gauges, PREFIX};
use crate::app::App;
use crate::registry::{NodeReport, NotScrapable};

/// How often every node is asked.
const INTERVAL: Duration = Duration::from_secs(2);
/// What a node has for its whole answer, which it has in memory.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Bytes of a node's metrics: it shows about 50 KiB, and as little more as it has processors.
const METRICS_BYTES_MAX: usize = 1 << 20;
/// Nodes that are asked at a time.
const ASKED_MAX: usize = 64;

/// Why a node's metrics are not there.
#[derive(Debug, Error)]
enum ScrapeError {
    #[error(transparent)]
    Address(#[from] NotScrapable),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl From<reqwest::Error> for ScrapeError {
    fn from(error: reqwest::Error) -> Self {
        Self::Read(error.into())
    }
}

type Fetched = (String, Result<Option<NodeReport>, ScrapeError>);

/// Fetches from all nodes, again and again.
pub(super) async fn run(app: &Arc<App>) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = HashSet::new();
    loop {
        interval.tick().await;
        let nodes = app.registry().metrics_addresses();
        told.retain(|told| nodes.iter().any(|(node, _)| node == told));
        let mut asked = JoinSet::new();
        for (node, address) in nodes {
            if asked.len() >= ASKED_MAX
                && let Some(Ok(fetched)) = asked.join_next().await
            {
                on_fetched(app, &mut told, fetched);
            }
            asked.spawn(fetch(Arc::clone(app), node, address));
        }
        while let Some(fetched) = asked.join_next().await {
            // One that panicked has been logged by the panic hook.
            if let Ok(fetched) = fetched {
                on_fetched(app, &mut told, fetched);
            }
        }
    }
}

fn on_fetched(app: &App, told: &mut HashSet<String>, (node, report): Fetched) {
    match report {
        Ok(report) => {
            if told.remove(&node) {
                tracing::info!(node, "the metrics of a node can be fetched again");
            }
            if let Some(report) = report {
                super::take(app, &node, &report);
            }
        }
        Err(error) if !told.contains(&node) => {
            tracing::warn!(node, %error, "the metrics of a node cannot be fetched; tried until they can");
            told.insert(node);
        }
        Err(_) => {}
    }
}

async fn fetch(app: Arc<App>, node: String, address: Result<SocketAddr, NotScrapable>) -> Fetched {
    let fetched = async {
        let request = app.http.get(format!("http://{}/metrics", address?)).timeout(TIMEOUT);
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status(response.status()));
        }
        let metrics = read_body(response, METRICS_BYTES_MAX).await?;
        Ok(parse(&String::from_utf8_lossy(&metrics), &node, &app.run))
    };
    let fetched = fetched.await;
    (node, fetched)
}

/// What a node's metrics say of itself.
fn parse(metrics: &str, node: &str, run: &str) -> Option<NodeReport> {
    // Of some hundred lines these are a dozen.
    let lines = metrics.lines().filter(|line| line.starts_with(PREFIX));
    let scrape = Scrape::parse(lines.map(|line| io::Result::Ok(line.to_owned()))).ok()?;
    let mut gauges = Gauges::default();
    for sample in scrape.samples.iter().filter(|sample| sample.labels.get("node") == Some(node)) {
        if let Value::Untyped(value) = sample.value {
            gauges.add(&sample.metric, |label| sample.labels.get(label), value, run);
        }
    }
    gauges.report()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# HELP lectern_node_report_seq Counts the node's reports of its load
# TYPE lectern_node_report_seq gauge
lectern_node_bits_per_second{node=\"n1\",of=\"capacity\"} 1000000000
lectern_node_bits_per_second{node=\"n1\",of=\"egress\"} 800
lectern_node_bits_per_second{node=\"n1\",of=\"load\"} 900
lectern_node_joins_seen{coordinator=\"run\",node=\"n1\"} 4
lectern_node_joins_seen{coordinator=\"other\",node=\"n1\"} 5
lectern_node_report_seq{node=\"n1\"} 17
lectern_node_share{node=\"n1\",of=\"cpu\"} 0.25
lectern_node_share{node=\"n1\",of=\"loss\"} 0
lectern_node_start_time_seconds{node=\"n1\"} 1795338000.123
lectern_rtc_join_seconds_bucket{le=\"0.5\"} 1
";

    #[test]
    fn of_a_nodes_metrics_its_own_figures_are_taken() {
        let report = parse(METRICS, "n1", "run").unwrap();
        assert_eq!((report.seq, report.started_at_ms), (17, 1_795_338_000_123));
        assert_eq!((report.load.load_bps, report.load.joins_seen), (900, 4));
        assert_eq!(parse(METRICS, "n2", "run"), None, "a node speaks for itself only");
        assert_eq!(parse(METRICS, "n1", "another"), None);
    }

    #[test]
    fn what_is_no_exposition_says_nothing() {
        for text in
            ["", "<html></html>", "lectern_node_", "lectern_node_share{", "lectern_node_share{} {} {}"]
        {
            assert_eq!(parse(text, "n1", "run"), None, "{text}");
        }
        for at in 0..METRICS.len() {
            let (before, after) = METRICS.split_at(at);
            let _ = parse(before, "n1", "run");
            let _ = parse(after, "n1", "run");
        }
    }
}
