//! Loads from elsewhere than heartbeats. The numbers of reports are the same in both, and so are the figures of one number, so
//! that nothing goes back when the one stands in for the other.
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use control::api::NodeLoad;
use thiserror::Error;

use super::placement::load_report;
use super::{Node, Registry};

/// A node of which the source has said nothing new for this long is placed by its heartbeats.
pub const SOURCE_SILENCE_MAX: Duration = Duration::from_secs(15);

/// What a source says of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeReport {
    /// When the node's process began, which names the life that this is of.
    pub started_at_ms: u64,
    /// The number of the report in that life.
    pub seq: u64,
    /// What the node carries. What it can carry is the membership's, in which every coordinator must see the same.
    pub load: NodeLoad,
}

/// How the source stands to one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// The number of its last report in the node's present life.
    seq: Option<u64>,
    /// When that came, or since when it is waited for.
    heard: Instant,
    /// Whether it was told that nothing comes.
    is_told: bool,
}

impl Source {
    /// A node is heard for the first time.
    pub(super) fn new(now: Instant) -> Self {
        Self { seq: None, heard: now, is_told: false }
    }

    /// The node begins a new life.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { is_told: self.is_told, ..Self::new(now) };
    }

    /// Whether it says what the node carries, and the heartbeats need not.
    pub(super) fn serves(&self, now: Instant) -> bool {
        self.seq.is_some() && !self.is_silent(now)
    }

    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= SOURCE_SILENCE_MAX
    }

    /// Whether a report of this number is news.
    fn take(&mut self, now: Instant, seq: u64) -> bool {
        let is_news = self.seq.is_none_or(|last| last < seq);
        if is_news {
            (self.seq, self.heard) = (Some(seq), now);
        }
        is_news
    }
}

/// The nodes for which it has changed who says what they carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceChanges {
    /// Those of which the source says nothing any more: their heartbeats do.
    pub silent: Vec<String>,
    /// Those of which it says something again.
    pub heard: Vec<String>,
}

/// Why nobody can fetch a node's metrics.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotScrapable {
    /// It is of an older version.
    #[error("it does not say where its metrics are")]
    Unsaid,
    /// They are for programs of its own machine, as they are by default.
    #[error(
        "its metrics are on its own loopback at {0}: set node.admin_listen to an address that the coordinator reaches"
    )]
    Loopback(SocketAddr),
}

impl Registry {
    /// Takes what the source says of a node. Returns whether that was news: what is late, repeated, of a former life or of no
    /// member is not.
    pub fn on_load(&mut self, now: Instant, node: &str, report: &NodeReport) -> bool {
        let heartbeat = self.nodes.get(node).and_then(Node::heartbeat);
        if heartbeat.is_none_or(|heartbeat| heartbeat.started_at_ms != report.started_at_ms) {
            return false;
        }
        self.placement.on_load(now, node, report)
    }

    /// The nodes that the source says nothing of, or again, since this was asked before.
    pub fn source_changes(&mut self, now: Instant) -> SourceChanges {
        let mut changes = SourceChanges::default();
        for (name, entry) in &mut self.placement.members {
            let is_silent = entry.source.is_silent(now);
            if std::mem::replace(&mut entry.source.is_told, is_silent) != is_silent {
                let list = if is_silent { &mut changes.silent } else { &mut changes.heard };
                list.push(name.clone());
            }
        }
        changes
    }

    /// Nodes of which the source says nothing.
    pub fn count_unsourced(&self, now: Instant) -> usize {
        self.placement.members.values().filter(|entry| entry.source.is_silent(now)).count()
    }

    /// Where the metrics of every node are.
    pub fn metrics_addresses(&self) -> Vec<(String, Result<SocketAddr, NotScrapable>)> {
        let heard = self.nodes.iter().filter_map(|(name, node)| Some((name, node, node.heartbeat()?)));
        heard.map(|(name, node, heartbeat)| (name.clone(), reachable(node.from, heartbeat.metrics))).collect()
    }
}

/// Where the port is at which a node listens, seen from here.
fn reachable(from: IpAddr, listens: Option<SocketAddr>) -> Result<SocketAddr, NotScrapable> {
    let listens = listens.ok_or(NotScrapable::Unsaid)?;
    let ip = listens.ip();
    if ip.is_unspecified() {
        return Ok(SocketAddr::new(from, listens.port()));
    }
    // Nobody elsewhere has this machine's own ports asked.
    if ip.is_loopback() && !from.is_loopback() { Err(NotScrapable::Loopback(listens)) } else { Ok(listens) }
}

impl super::placement::Placement {
    fn on_load(&mut self, now: Instant, node: &str, report: &NodeReport) -> bool {
        let Some(entry) = self.members.get_mut(node) else { return false };
        let is_news = entry.source.take(now, report.seq);
        if is_news {
            let report = load_report(entry.report.boot, report.seq, &report.load);
            self.take(node, report);
        }
        is_news
    }
}

#[cfg(test)]
mod tests;
