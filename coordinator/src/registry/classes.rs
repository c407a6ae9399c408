//! Which nodes have the stream of a class, and from whom it comes.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use control::api::{Heartbeat, LinkAddress, Playback, Source, StreamReport, StreamState, Superseded};

use super::{Node, Registry};
use crate::assign::{FIRST_LEVEL_EDGES, MemberState, score};

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
    /// The greatest epoch of what nodes have from elsewhere.
    relayed: u64,
    viewers: u32,
    playback: Playback,
}

impl<'a> Directory<'a> {
    fn add(&mut self, node: &'a Heartbeat, report: &'a StreamReport) {
        self.viewers = self.viewers.saturating_add(report.viewers);
        self.playback.add(&report.playback);
        if report.is_relayed {
            self.relayed = self.relayed.max(report.epoch.min(EPOCH_MAX));
        } else if self.newest.is_none_or(|(_, newest)| age(newest) <= age(report)) {
            self.newest = Some((node, report));
        }
    }

    fn located(self) -> Option<Located> {
        let (node, report) = self.newest?;
        let report = StreamReport { viewers: self.viewers, playback: self.playback, ..report.clone() };
        Some(Located { report, node: node.node.clone() })
    }
}

/// What a node says beyond this is not counted on from: there must be greater ones.
const EPOCH_MAX: u64 = 1 << 62;

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

    /// A node that takes apps, for a new one of this class: classes are spread over nodes by their names.
    pub fn publishing_node(&self, class: &str) -> Option<(&Heartbeat, IpAddr)> {
        let ready = self.nodes.values().filter(|node| node.state == MemberState::Ready);
        let nodes = ready.filter_map(|node| Some((node.heartbeat()?, node.from)));
        let taking = nodes.filter(|(node, _)| node.rtmp_port.or(node.rtmps_port).is_some());
        taking.max_by_key(|(node, _)| score::hash(&[class, "publisher", &node.node]))
    }

    /// Where `asking`, which has viewers of a class, gets its stream from, unless it could not get it from there just now: then from
    /// the origin, and if it was that, from a node that has the stream, for the way there may be open.
    pub fn source(&mut self, class: &str, asking: &str, failed: Option<&str>) -> Option<Source> {
        let (origin, report) = self.directory(class).newest.filter(|(node, _)| node.node != asking)?;
        let (origin, epoch) = (origin.node.clone(), report.epoch);
        let is_live = report.state == StreamState::Active;
        let is_published = is_live || report.state == StreamState::Starting;
        let parent = match failed {
            Some(failed) if failed == origin => self.detour(class, epoch, asking),
            _ => self.parent(class, &origin, asking).filter(|parent| Some(&**parent) != failed),
        };
        let name = parent.unwrap_or(origin);
        let node = self.nodes.get(&name)?;
        let LinkAddress { host, port } = node.heartbeat()?.link?;
        // Whoever asks knows where this machine is.
        let from = Some(node.from).filter(|from| !from.is_loopback());
        Some(Source { node: name, host: host.or(from), port, epoch, is_live, is_published })
    }

    /// A node that gets the stream of this epoch from elsewhere. Each of those that ask has another one first.
    fn detour(&self, class: &str, epoch: u64, asking: &str) -> Option<String> {
        let has = |report: &StreamReport| {
            report.is_relayed && report.epoch == epoch && report.state == StreamState::Active
        };
        let others = self.reports(class).filter(|(node, report)| node.node != asking && has(report));
        let reachable = others.filter(|(node, _)| {
            let is_ready = self.nodes.get(&node.node).is_some_and(|node| node.state == MemberState::Ready);
            is_ready && node.link.is_some()
        });
        let names = reachable.map(|(node, _)| node.node.as_str());
        names.max_by_key(|name| score::hash(&[class, asking, name])).map(str::to_owned)
    }

    /// The node other than the origin that passes a stream on to `asking`, where so many have it that the origin does not feed them
    /// all. Of a publisher that has just gone elsewhere it may have nothing yet; then it has it soon.
    fn parent(&mut self, class: &str, origin: &str, asking: &str) -> Option<String> {
        let reports = self.reports(class).filter(|(node, report)| report.is_relayed && node.link.is_some());
        let mut edges: Vec<String> = reports.map(|(node, _)| node.node.clone()).collect();
        if edges.len() < FIRST_LEVEL_EDGES {
            return None;
        }
        edges.push(asking.to_owned());
        let edges: Vec<&str> = edges.iter().map(String::as_str).collect();
        let parent = self.placement.assignment().parent(class, origin, &edges, asking)?;
        let is_ready = self.nodes.get(parent).is_some_and(|node| node.state == MemberState::Ready);
        (parent != origin && is_ready).then(|| parent.to_owned())
    }

    /// The streams of a node that somebody publishes elsewhere by now, or of which others have a later epoch: those go back to no
    /// earlier one. So it is when epochs were given while the database was away and nobody lives who knew them: the publisher comes
    /// back at once, and has one beyond.
    pub fn superseded(&self, node: &str) -> Vec<Superseded> {
        let heartbeat = self.nodes.get(node).and_then(|node| node.heartbeat.as_ref());
        let streams = heartbeat.iter().flat_map(|heartbeat| &heartbeat.streams);
        let newest = streams.filter_map(|report| {
            let Directory { newest, relayed, .. } = self.directory(&report.class);
            let (_, newest) = newest?;
            let is_behind = !report.is_relayed && relayed > report.epoch;
            let epoch = if is_behind { relayed } else { newest.epoch };
            let superseded = || Superseded { class: newest.class.clone(), epoch };
            (is_behind || age(newest) > age(report)).then(superseded)
        });
        newest.collect()
    }

    /// The greatest epoch of a class that any node has; 0 if there is none.
    pub fn epoch(&self, class: &str) -> u64 {
        self.reports(class).map(|(_, report)| report.epoch).max().unwrap_or(0).min(EPOCH_MAX)
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
