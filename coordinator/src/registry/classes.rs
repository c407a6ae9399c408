//! Which nodes have the stream of a class, and from whom it comes.
use std::collections::{BTreeMap, BTreeSet};

use control::api::{Heartbeat, LinkAddress, Source, StreamReport, Superseded};

use super::{Node, Registry};

/// A stream and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What its node says of it.
    pub report: StreamReport,
    /// The node.
    pub node: String,
}

/// The nodes that say something of a class, by its name.
#[derive(Debug, Default)]
pub(super) struct ClassIndex(BTreeMap<String, BTreeSet<String>>);

impl ClassIndex {
    pub(super) fn add(&mut self, heartbeat: &Heartbeat) {
        for stream in &heartbeat.streams {
            match self.0.get_mut(&stream.class) {
                Some(nodes) => _ = nodes.insert(heartbeat.node.clone()),
                None => _ = self.0.insert(stream.class.clone(), BTreeSet::from([heartbeat.node.clone()])),
            }
        }
    }

    pub(super) fn remove(&mut self, heartbeat: &Heartbeat) {
        for stream in &heartbeat.streams {
            let Some(nodes) = self.0.get_mut(&stream.class) else { continue };
            nodes.remove(&heartbeat.node);
            if nodes.is_empty() {
                self.0.remove(&stream.class);
            }
        }
    }
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

/// Two coordinators that could not write may have given one epoch twice.
fn age(report: &StreamReport) -> (u64, &str) {
    (report.epoch, &report.session)
}

impl Registry {
    /// The stream of every class that has one, as the node says to which its newest publisher speaks; viewers are those of all
    /// nodes.
    pub fn streams(&self) -> Vec<Located> {
        self.classes.0.keys().filter_map(|class| self.stream(class)).collect()
    }

    /// The stream of one class, in the same way.
    pub fn stream(&self, class: &str) -> Option<Located> {
        self.directory(class).located()
    }

    /// How many streams [`Self::streams`] has.
    pub fn count_streams(&self) -> usize {
        self.classes.0.keys().filter(|class| self.directory(class).newest.is_some()).count()
    }

    /// Where `asking`, which has viewers of a class, gets its stream from.
    pub fn source(&self, class: &str, asking: &str) -> Option<Source> {
        let (heartbeat, report) = self.directory(class).newest.filter(|(node, _)| node.node != asking)?;
        let LinkAddress { host, port } = heartbeat.link?;
        let node = self.nodes.get(&heartbeat.node)?;
        // Whoever asks knows where this machine is.
        let from = Some(node.from).filter(|from| !from.is_loopback());
        Some(Source { node: heartbeat.node.clone(), host: host.or(from), port, epoch: report.epoch })
    }

    /// The streams of a node that somebody publishes elsewhere by now.
    pub fn superseded(&self, node: &str) -> Vec<Superseded> {
        let heartbeat = self.nodes.get(node).and_then(|node| node.heartbeat.as_ref());
        let streams = heartbeat.iter().flat_map(|heartbeat| &heartbeat.streams);
        let newest = streams.filter_map(|report| {
            let (_, newest) = self.directory(&report.class).newest?;
            let superseded = || Superseded { class: newest.class.clone(), epoch: newest.epoch };
            (age(newest) > age(report)).then(superseded)
        });
        newest.collect()
    }

    /// The greatest epoch of a class that any node has; 0 if there is none.
    pub fn epoch(&self, class: &str) -> u64 {
        self.reports(class).map(|(_, report)| report.epoch).max().unwrap_or(0)
    }

    fn directory(&self, class: &str) -> Directory<'_> {
        let mut directory = Directory::default();
        self.reports(class).for_each(|(node, report)| directory.add(node, report));
        directory
    }

    /// What nodes say of a class.
    pub(super) fn reports(&self, class: &str) -> impl Iterator<Item = (&Heartbeat, &StreamReport)> {
        let nodes = self.classes.0.get(class).into_iter().flatten();
        let heartbeats = nodes.filter_map(|name| self.nodes.get(name).and_then(Node::heartbeat));
        heartbeats.flat_map(move |heartbeat| {
            let reports = heartbeat.streams.iter().filter(move |report| report.class == class);
            reports.map(move |report| (heartbeat, report))
        })
    }
}
