//! What the nodes say of themselves, as a pure machine. It is rebuilt from heartbeats, never stored.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use control::api::{Heartbeat, LinkAddress, Source, StreamReport, StreamState, Superseded};

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
    /// Where it comes from.
    from: IpAddr,
    /// What the database has not taken yet, by number; nothing if it has taken every change so far.
    unsaved: Option<u64>,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Node>,
    /// Nodes that fell silent, until somebody writes that down.
    lost: BTreeSet<String>,
    /// How often there was something to write down.
    tellings: u64,
}

impl Registry {
    /// A node that must have been there before this coordinator began: it has as long as any to be heard.
    pub fn expect(&mut self, now: Instant, node: &str) {
        self.nodes.entry(node.to_owned()).or_insert(Node {
            heard: now,
            heartbeat: None,
            from: Ipv4Addr::UNSPECIFIED.into(),
            unsaved: None,
        });
    }

    /// Takes a heartbeat. Returns what it changes, which counts as not written down until [`Self::on_saved`] says that it is:
    /// whoever writes it may be interrupted.
    pub fn on_heartbeat(&mut self, now: Instant, from: IpAddr, heartbeat: Heartbeat) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&heartbeat.node) {
            return changes;
        }
        // It is there, whatever was about to be written down; what it has no more follows from what it says.
        self.lost.remove(&heartbeat.node);
        let before = self.nodes.remove(&heartbeat.node);
        let before = before.filter(|node| node.unsaved.is_none()).and_then(|node| node.heartbeat);
        let is_same_life =
            before.as_ref().is_some_and(|before| before.started_at_ms == heartbeat.started_at_ms);
        if !is_same_life {
            let (node, started_at_ms) = (heartbeat.node.clone(), heartbeat.started_at_ms);
            changes.push(Change::Restarted { node, started_at_ms });
        }
        let before = before.filter(|_| is_same_life).map(|before| before.streams).unwrap_or_default();
        // Of a session the database hears what the node says that its publisher speaks to.
        for stream in heartbeat.streams.iter().filter(|stream| !stream.is_relayed) {
            let known = before.iter().find(|known| known.session == stream.session);
            if known.is_none_or(|known| lasting(known) != lasting(stream)) {
                changes.push(Change::Stream { node: heartbeat.node.clone(), report: stream.clone() });
            }
        }
        let name = heartbeat.node.clone();
        let unsaved = (!changes.is_empty()).then(|| self.telling());
        self.nodes.insert(name, Node { heard: now, heartbeat: Some(heartbeat), from, unsaved });
        changes
    }

    fn telling(&mut self) -> u64 {
        self.tellings += 1;
        self.tellings
    }

    /// The number of what a node has to be written down.
    pub fn unsaved(&self, node: &str) -> Option<u64> {
        self.nodes.get(node).and_then(|node| node.unsaved)
    }

    /// What had this number is written down. If there is something newer, that is not.
    pub fn on_saved(&mut self, node: &str, telling: u64) {
        if let Some(node) = self.nodes.get_mut(node).filter(|node| node.unsaved == Some(telling)) {
            node.unsaved = None;
        }
    }

    /// A change of this node was not written down: everything about it is told anew, with its next heartbeat or when it
    /// has been silent for as long as any.
    pub fn on_unsaved(&mut self, now: Instant, node: &str) {
        self.expect(now, node);
        let telling = self.telling();
        if let Some(node) = self.nodes.get_mut(node) {
            node.unsaved = Some(telling);
        }
    }

    /// Forgets the nodes that are silent, and returns their names.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<String> {
        let is_silent = |node: &mut Node| now.saturating_duration_since(node.heard) >= SILENCE_MAX;
        let silent: Vec<_> =
            self.nodes.extract_if(.., |_, node| is_silent(node)).map(|(name, _)| name).collect();
        self.lost.extend(silent.iter().cloned());
        silent
    }

    /// The nodes that fell silent since this was asked before, and were not heard again meanwhile.
    pub fn take_lost(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.lost).into_iter().map(|node| Change::Lost { node }).collect()
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

    /// The stream of one class, as the node says to which its newest publisher speaks; viewers are those of all nodes.
    pub fn stream(&self, class: &str) -> Option<Located> {
        let of_publishers = self.reports(class).filter(|(_, report)| !report.is_relayed);
        // Two coordinators that could not write may have given one epoch twice.
        let (node, report) = of_publishers.max_by_key(|(_, report)| (report.epoch, &report.session))?;
        let viewers = self.reports(class).map(|(_, report)| report.viewers).fold(0, u32::saturating_add);
        Some(Located { report: StreamReport { viewers, ..report.clone() }, node: node.node.clone() })
    }

    /// Where `asking`, which has viewers of a class, gets its stream from.
    pub fn source(&self, class: &str, asking: &str) -> Option<Source> {
        let located = self.stream(class).filter(|located| located.node != asking)?;
        let node = self.nodes.get(&located.node)?;
        let LinkAddress { host, port } = node.heartbeat.as_ref()?.link?;
        // Whoever asks knows where this machine is.
        let from = Some(node.from).filter(|from| !from.is_loopback());
        Some(Source { node: located.node, host: host.or(from), port, epoch: located.report.epoch })
    }

    /// The streams of a node that somebody publishes elsewhere by now.
    pub fn superseded(&self, node: &str) -> Vec<Superseded> {
        let heartbeat = self.nodes.get(node).and_then(|node| node.heartbeat.as_ref());
        let streams = heartbeat.iter().flat_map(|heartbeat| &heartbeat.streams);
        let newest = streams.filter_map(|report| {
            let newest = self.stream(&report.class)?;
            let is_newer = (newest.report.epoch, &newest.report.session) > (report.epoch, &report.session);
            is_newer.then_some(Superseded { class: newest.report.class, epoch: newest.report.epoch })
        });
        newest.collect()
    }

    /// The greatest epoch of a class that any node has; 0 if there is none.
    pub fn epoch(&self, class: &str) -> u64 {
        self.reports(class).map(|(_, report)| report.epoch).max().unwrap_or(0)
    }

    fn reports(&self, class: &str) -> impl Iterator<Item = (&Heartbeat, &StreamReport)> {
        let heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        heartbeats.flat_map(move |heartbeat| {
            let reports = heartbeat.streams.iter().filter(move |report| report.class == class);
            reports.map(move |report| (heartbeat, report))
        })
    }

    /// Whether a class can be watched now.
    pub fn is_live(&self, class: &str) -> bool {
        self.reports(class).any(|(_, report)| report.state == StreamState::Active)
    }

    /// The node that a viewer of this class is sent to: the one that has the stream, else any.
    pub fn node_for(&self, class: &str) -> Option<&Heartbeat> {
        let mut heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        let has_stream =
            |heartbeat: &&Heartbeat| heartbeat.streams.iter().any(|stream| stream.class == class);
        heartbeats.clone().find(has_stream).or_else(|| heartbeats.next())
    }

    /// The addresses that nodes have for browsers.
    pub fn public_urls(&self) -> impl Iterator<Item = &str> {
        let heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        heartbeats.filter_map(|heartbeat| heartbeat.public_url.as_deref())
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
fn lasting(report: &StreamReport) -> (StreamState, bool, bool, u32, u32, Option<&str>) {
    let problem = report.problems.first().map(|problem| problem.code.as_str());
    (report.state, report.has_video, report.has_audio, report.width, report.height, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn report(state: StreamState) -> StreamReport {
        StreamReport {
            class: "room101".to_owned(),
            session: "s1".to_owned(),
            epoch: 1,
            is_relayed: false,
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
        Heartbeat {
            node: "n1".to_owned(),
            started_at_ms,
            public_url: None,
            whep_port: 8889,
            link: None,
            streams,
        }
    }

    /// Takes a heartbeat and has written down what it changes.
    fn save(registry: &mut Registry, now: Instant, heartbeat: Heartbeat) -> Vec<Change> {
        let node = heartbeat.node.clone();
        let changes = registry.on_heartbeat(now, FROM, heartbeat);
        let telling = registry.unsaved(&node);
        assert_eq!(telling.is_none(), changes.is_empty());
        telling.into_iter().for_each(|telling| registry.on_saved(&node, telling));
        changes
    }

    #[test]
    fn only_changes_are_told() {
        let mut registry = Registry::default();
        let now = Instant::now();
        let first = save(&mut registry, now, heartbeat(1, vec![report(StreamState::Starting)]));
        assert_eq!(first.len(), 2, "a new life and a new stream");
        assert!(!registry.is_live("room101"));
        assert!(
            registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Starting)])).is_empty()
        );
        let active = registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
        let expected = Change::Stream { node: "n1".to_owned(), report: report(StreamState::Active) };
        assert_eq!(active, [expected]);
        assert!(registry.is_live("room101"));
    }

    #[test]
    fn a_new_life_ends_what_was_before() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
        let changes = registry.on_heartbeat(now, FROM, heartbeat(2, vec![]));
        assert_eq!(changes, [Change::Restarted { node: "n1".to_owned(), started_at_ms: 2 }]);
    }

    #[test]
    fn silence_ends_a_node_also_one_that_was_only_expected() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
        registry.expect(now, "n0");
        registry.expect(now, "n1");
        assert!(registry.on_timeout(now + SILENCE_MAX - Duration::from_millis(1)).is_empty());
        assert_eq!(registry.on_timeout(now + SILENCE_MAX), ["n0", "n1"]);
        assert!(registry.node_for("room101").is_none());
        registry.on_heartbeat(now + SILENCE_MAX, FROM, heartbeat(1, vec![]));
        let lost = ["n0".to_owned()].map(|node| Change::Lost { node });
        assert_eq!(registry.take_lost(), lost, "the other one is there again");
        assert!(registry.take_lost().is_empty());
    }

    #[test]
    fn what_was_not_written_down_is_told_again() {
        let mut registry = Registry::default();
        let now = Instant::now();
        let active = || heartbeat(1, vec![report(StreamState::Active)]);
        let first = registry.on_heartbeat(now, FROM, active());
        assert!(registry.is_live("room101"), "viewers are not concerned");
        let telling = registry.unsaved("n1").unwrap();
        assert_eq!(
            registry.on_heartbeat(now, FROM, active()),
            first,
            "whoever wrote it may have been interrupted"
        );
        registry.on_saved("n1", telling);
        assert_eq!(save(&mut registry, now, active()), first, "it is not the newest that was written down");
        assert!(save(&mut registry, now, active()).is_empty());
        registry.on_unsaved(now, "n1");
        assert_eq!(save(&mut registry, now, active()), first);
        registry.on_timeout(now + SILENCE_MAX);
        let lost = registry.take_lost();
        registry.on_unsaved(now + SILENCE_MAX, "n1");
        registry.on_timeout(now + SILENCE_MAX * 2);
        assert_eq!(registry.take_lost(), lost);
    }

    #[test]
    fn a_node_denies_only_what_it_does_not_report() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.expect(now, "n1");
        assert!(!registry.denies("n1", "s2"), "it has not been heard");
        registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Starting)]));
        assert_eq!((registry.denies("n1", "s1"), registry.denies("n1", "s2")), (false, true));
        assert!(!registry.denies("n2", "s2"));
    }

    #[test]
    fn nodes_beyond_the_bound_are_not_taken_in() {
        let mut registry = Registry::default();
        let now = Instant::now();
        for n in 0..=NODES_MAX {
            let named = Heartbeat { node: n.to_string(), ..heartbeat(1, vec![]) };
            assert_eq!(registry.on_heartbeat(now, FROM, named).is_empty(), n == NODES_MAX);
        }
        assert_eq!(registry.nodes().len(), NODES_MAX);
    }

    #[test]
    fn a_viewer_is_sent_where_the_stream_is() {
        let mut registry = Registry::default();
        let now = Instant::now();
        registry.on_heartbeat(now, FROM, Heartbeat { node: "a".to_owned(), ..heartbeat(1, vec![]) });
        registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
        assert_eq!(registry.node_for("room101").map(|node| node.node.as_str()), Some("n1"));
        assert_eq!(registry.node_for("another").map(|node| node.node.as_str()), Some("a"));
    }
}
