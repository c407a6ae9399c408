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

/// What nodes say of the stream of one class.
#[derive(Default)]
struct Directory<'a> {
    newest: Option<(&'a Heartbeat, &'a StreamReport)>,
    viewers: u32,
}

impl<'a> Directory<'a> {
    fn add(&mut self, node: &'a Heartbeat, report: &'a StreamReport) {
        self.viewers = self.viewers.saturating_add(report.viewers);
        // Two coordinators that could not write may have given one epoch twice.
        let age = |report: &'a StreamReport| (report.epoch, &report.session);
        if !report.is_relayed && self.newest.is_none_or(|(_, newest)| age(newest) <= age(report)) {
            self.newest = Some((node, report));
        }
    }

    fn located(self) -> Option<Located> {
        let (node, report) = self.newest?;
        let report = StreamReport { viewers: self.viewers, ..report.clone() };
        Some(Located { report, node: node.node.clone() })
    }
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

    /// The stream of every class that has one, as the node says to which its newest publisher speaks; viewers are those of all
    /// nodes.
    pub fn streams(&self) -> Vec<Located> {
        let heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        let reports = heartbeats.flat_map(|node| node.streams.iter().map(move |report| (node, report)));
        let mut classes: BTreeMap<&str, Directory<'_>> = BTreeMap::new();
        for (node, report) in reports {
            classes.entry(&report.class).or_default().add(node, report);
        }
        classes.into_values().filter_map(Directory::located).collect()
    }

    /// The stream of one class, in the same way.
    pub fn stream(&self, class: &str) -> Option<Located> {
        let mut directory = Directory::default();
        self.reports(class).for_each(|(node, report)| directory.add(node, report));
        directory.located()
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

    /// The node that a viewer of this class is sent to, and where it is: the one that has the stream from its publisher, else any.
    pub fn node_for(&self, class: &str) -> Option<(&Heartbeat, IpAddr)> {
        let located = self.stream(class).and_then(|located| self.nodes.get(&located.node));
        let node = located.or_else(|| self.nodes.values().find(|node| node.heartbeat.is_some()))?;
        Some((node.heartbeat.as_ref()?, node.from))
    }

    /// The addresses that nodes have for browsers.
    pub fn public_urls(&self) -> impl Iterator<Item = &str> {
        let heartbeats = self.nodes.values().filter_map(|node| node.heartbeat.as_ref());
        heartbeats.filter_map(|heartbeat| heartbeat.public_url.as_deref())
    }

    /// Whether a node has been heard lately.
    pub fn is_heard(&self, now: Instant, node: &str) -> bool {
        let node = self.nodes.get(node).filter(|node| node.heartbeat.is_some());
        node.is_some_and(|node| now.saturating_duration_since(node.heard) < SILENCE_MAX)
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
mod tests;
