//! The loads of nodes from elsewhere than their heartbeats, as `coordinator.load_source` says.
mod prometheus;
mod scrape;
mod series;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use crate::app::App;
use crate::config::LoadSource;
use crate::registry::NodeReport;

/// Nodes that a line of the log names; of others it says how many they are.
const NAMES_MAX: usize = 8;

/// Asks the source again and again. Heartbeats come by themselves.
pub(crate) async fn run(app: &Arc<App>) -> Infallible {
    match app.load_source {
        LoadSource::Heartbeat => std::future::pending().await,
        LoadSource::Scrape => scrape::run(app).await,
        LoadSource::Prometheus => prometheus::run(app).await,
    }
}

/// Says for which nodes the source has fallen silent, and for which it has not any more.
pub(crate) fn look(app: &App, now: Instant) {
    if app.load_source == LoadSource::Heartbeat {
        return;
    }
    let (changes, silent) = {
        let mut registry = app.registry();
        (registry.source_changes(now), registry.count_unsourced(now))
    };
    app.metrics.loads_silent.set(i64::try_from(silent).unwrap_or(i64::MAX));
    if !changes.silent.is_empty() {
        let (count, nodes) = (changes.silent.len(), names(&changes.silent));
        tracing::warn!(count, nodes, "the source of loads says nothing of these nodes: their heartbeats do");
    }
    if !changes.heard.is_empty() {
        let (count, nodes) = (changes.heard.len(), names(&changes.heard));
        tracing::info!(count, nodes, "the source of loads speaks of these nodes again");
    }
}

fn names(nodes: &[String]) -> String {
    nodes.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Takes over what the source says of a node.
fn take(app: &App, node: &str, report: &NodeReport) {
    if app.registry().on_load(Instant::now(), node, report) {
        app.metrics.load_reports.inc();
    }
}
