//! What the nodes say of themselves, as a pure machine. It is rebuilt from heartbeats, never stored.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::api::{Heartbeat, StreamReport, StreamState};

/// A node that has been silent for this long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Nodes at most.
const NODES_MAX: usize = 1024;

/// A change that the database must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A stream is in another state than before, or its tracks are known.
    Stream {
        /// Its node.
        node: String,
        /// What that says of it.
        report: StreamReport,
    },
    /// A node began a new life at this time (milliseconds since 1970): what was before is over.
    Restarted {
        /// The node.
        node: String,
        /// When.
        started_at_ms: u64,
    },
    /// A node is gone.
    Lost {
        /// The node.
        node: String,
    },
}

impl Change {
    /// The node that it is about.
    pub fn node(&self) -> &str {
        match self {
            Self::Stream { node, .. } | Self::Restarted { node, .. } | Self::Lost { node } => node,
        }
    }
}

/// A stream and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What its node says of it.
    pub report: StreamReport,
    /// The node.
    pub node: String,
}

#[derive(Debug)]
struct Node {
    heard: Instant,
    /// Nothing yet, if it is only known from before this coordinator began.
    heartbeat: Option<Heartbeat>,
    /// Whether the database has taken every change so far.
    is_saved: bool,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Node>,
}

impl Registry {
    /// A node that must have been there before this coordinator began: it has as long as any to be heard.
    pub fn expect(&mut self, now: Instant, node: &str) {
        self.nodes.entry(node.to_owned()).or_insert(Node { heard: now, heartbeat: None, is_saved: true });
    }

    /// Takes a heartbeat. Returns what it changes.
    pub fn on_heartbeat(&mut self, now: Instant, heartbeat: Heartbeat) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&heartbeat.node) {
            return changes;
        }
        let before =
            self.nodes.remove(&heartbeat.node).filter(|node| node.is_saved).and_then(|node| node.heartbeat);
        let is_same_life =
            before.as_ref().is_some_and(|before| before.started_at_ms == heartbeat.started_at_ms);
        if !is_same_life {
            let (node, started_at_ms) = (heartbeat.node.clone(), heartbeat.started_at_ms);
            changes.push(Change::Restarted { node, started_at_ms });
        }
        let before = before.filter(|_| is_same_life).map(|before| before.streams).unwrap_or_default();
        for stream in &heartbeat.streams {
            let known = before.iter().find(|known| known.session == stream.session);
            if known.is_none_or(|known| lasting(known) != lasting(stream)) {
                changes.push(Change::Stream { node: heartbeat.node.clone(), report: stream.clone() });
            }
        }
        let name = heartbeat.node.clone();
        self.nodes.insert(name, Node { heard: now, heartbeat: Some(heartbeat), is_saved: true });
        changes
    }

    /// A change of this node was not written down: everything about it is told anew, with its next heartbeat or when it
    /// has been silent for as long as any.
    pub fn on_unsaved(&mut self, now: Instant, node: &str) {
        self.expect(now, node);
        if let Some(node) = self.nodes.get_mut(node) {
            node.is_saved = false;
        }
    }

    /// Forgets the nodes that are silent.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        self.nodes.retain(|name, node| {
            let is_alive = now.saturating_duration_since(node.heard) < SILENCE_MAX;
            if !is_alive {
                changes.push(Change::Lost { node: name.clone() });
            }
            is_alive
        });
        changes
    }

    /// Every stream of every node.
    pub fn streams(&self) -> Vec<Located> {
        let heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        heartbeats
            .flat_map(|heartbeat| {
                heartbeat
                    .streams
                    .iter()
                    .map(|report| Located { report: report.clone(), node: heartbeat.node.clone() })
            })
            .collect()
    }

    /// The stream of one class.
    pub fn stream(&self, class: &str) -> Option<Located> {
        let mut heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        heartbeats.find_map(|heartbeat| {
            let report = heartbeat.streams.iter().find(|report| report.class == class)?;
            Some(Located { report: report.clone(), node: heartbeat.node.clone() })
        })
    }

    /// Whether a class can be watched now.
    pub fn is_live(&self, class: &str) -> bool {
        let heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        let mut reports = heartbeats.flat_map(|heartbeat| &heartbeat.streams);
        reports.any(|report| report.class == class && report.state == StreamState::Active)
    }

    /// The node that a viewer of this class is sent to: the one that has the stream, else any.
    pub fn node_for(&self, class: &str) -> Option<&Heartbeat> {
        let mut heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        let has_stream =
            |heartbeat: &&Heartbeat| heartbeat.streams.iter().any(|stream| stream.class == class);
        heartbeats.clone().find(has_stream).or_else(|| heartbeats.next())
    }

    /// Nodes that have been heard.
    pub fn nodes(&self) -> Vec<String> {
        let heard = self.nodes.iter().filter(|(_, node)| node.heartbeat.is_some());
        heard.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a node that has been heard says that it has no such session.
    pub fn denies(&self, node: &str, session: &str) -> bool {
        let heartbeat = self.nodes.get(node).and_then(|node| node.heartbeat.as_ref());
        heartbeat.is_some_and(|heartbeat| heartbeat.streams.iter().all(|stream| stream.session != session))
    }
}

/// The parts of a report that the database keeps.
fn lasting(report: &StreamReport) -> (StreamState, bool, bool, u32, u32) {
    (report.state, report.has_video, report.has_audio, report.width, report.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: StreamState) -> StreamReport {
        StreamReport {
            class: "room101".to_owned(),
            session: "s1".to_owned(),
            state,
            viewers: 0,
            has_video: true,
            has_audio: true,
            width: 1280,
            height: 720,
            bitrate_bps: 0,
            problems: Vec::new(),
        }
    }

    fn heartbeat(started_at_ms: u64, streams: Vec<StreamReport>) -> Heartbeat {
        Heartbeat { node: "n1".to_owned(), started_at_ms, public_url: None, whep_port: 8889, streams }
    }

    #[test]
    fn only_changes_are_told() {
        let mut registry = Registry::default();
        let now = Instant::now();
        let first = registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Starting)]));
        assert_eq!(first.len(), 2, "a new life and a new stream");
        assert!(!registry.is_live("room101"));
        assert!(registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Starting)])).is_empty());
        let active = registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Active)]));
        let expected = Change::Stream { node: "n1".to_owned(), report: report(StreamState::Active) };
        assert_eq!(active, [expected]);
        assert!(registry.is_live("room101"));
    }

    #[test]
    fn a_new_life_ends_what_was_before() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Active)]));
        let changes = registry.on_heartbeat(now, heartbeat(2, vec![]));
        assert_eq!(changes, [Change::Restarted { node: "n1".to_owned(), started_at_ms: 2 }]);
    }

    #[test]
    fn silence_ends_a_node_also_one_that_was_only_expected() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Active)]));
        registry.expect(now, "n0");
        registry.expect(now, "n1");
        assert!(registry.on_timeout(now + SILENCE_MAX - Duration::from_millis(1)).is_empty());
        assert_eq!(registry.on_timeout(now + SILENCE_MAX).len(), 2);
        assert!(registry.node_for("room101").is_none());
    }

    #[test]
    fn what_was_not_written_down_is_told_again() {
        let mut registry = Registry::default();
        let now = Instant::now();
        let active = || heartbeat(1, vec![report(StreamState::Active)]);
        let first = registry.on_heartbeat(now, active());
        registry.on_unsaved(now, "n1");
        assert!(registry.is_live("room101"), "viewers are not concerned");
        assert_eq!(registry.on_heartbeat(now, active()), first);
        assert!(registry.on_heartbeat(now, active()).is_empty());
        let lost = registry.on_timeout(now + SILENCE_MAX);
        registry.on_unsaved(now + SILENCE_MAX, "n1");
        assert_eq!(registry.on_timeout(now + SILENCE_MAX * 2), lost);
    }

    #[test]
    fn a_node_denies_only_what_it_does_not_report() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.expect(now, "n1");
        assert!(!registry.denies("n1", "s2"), "it has not been heard");
        registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Starting)]));
        assert_eq!((registry.denies("n1", "s1"), registry.denies("n1", "s2")), (false, true));
        assert!(!registry.denies("n2", "s2"));
    }

    #[test]
    fn nodes_beyond_the_bound_are_not_taken_in() {
        let mut registry = Registry::default();
        let now = Instant::now();
        for n in 0..=NODES_MAX {
            let named = Heartbeat { node: n.to_string(), ..heartbeat(1, vec![]) };
            assert_eq!(registry.on_heartbeat(now, named).is_empty(), n == NODES_MAX);
        }
        assert_eq!(registry.nodes().len(), NODES_MAX);
    }

    #[test]
    fn a_viewer_is_sent_where_the_stream_is() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.on_heartbeat(now, Heartbeat { node: "a".to_owned(), ..heartbeat(1, vec![]) });
        registry.on_heartbeat(now, heartbeat(1, vec![report(StreamState::Active)]));
        assert_eq!(registry.node_for("room101").map(|node| node.node.as_str()), Some("n1"));
        assert_eq!(registry.node_for("another").map(|node| node.node.as_str()), Some("a"));
    }
}
