//! What the nodes say of themselves, as a pure machine. It is rebuilt from heartbeats, never stored.
mod classes;
mod lessons;
mod lives;
mod loads;
mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use control::api::{Heartbeat, StreamReport, StreamState};

use self::classes::ClassIndex;
pub use self::classes::Located;
use self::lessons::Away;
pub use self::lessons::{Lesson, Phase};
use self::lives::Lives;
pub use self::lives::Stale;
pub use self::loads::{NodeReport, NotScrapable, SOURCE_SILENCE_MAX, SourceChanges};
use self::placement::Placement;
pub use self::placement::{NoNode, Wish};
use crate::assign::MemberState;

/// A node that has been silent for this long takes no new viewers.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// A node that has been silent for this long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// If more than half of so many nodes fall silent together, it is rather this machine that hears nothing: they stay.
const HALF_OF_MIN: usize = 4;
/// But not for longer than this.
const HALF_MAX: Duration = Duration::from_secs(300);
/// How often somebody looks at the nodes, and the time without a look that was a pause of this process.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Nodes at most.
const NODES_MAX: usize = 10_000;

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

#[derive(Debug)]
struct Node {
    heard: Instant,
    /// Nothing yet, if it is only known from before this coordinator began.
    heartbeat: Option<Heartbeat>,
    /// Where it comes from.
    from: IpAddr,
    state: MemberState,
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
    classes: ClassIndex,
    away: Away,
    lives: Lives,
    placement: Placement,
    /// When somebody looked for silent nodes last.
    looked: Option<Instant>,
}

impl Registry {
    /// A node that must have been there before this coordinator began: it has as long as any to be heard.
    pub fn expect(&mut self, now: Instant, node: &str) {
        self.nodes.entry(node.to_owned()).or_insert(Node {
            heard: now,
            heartbeat: None,
            from: Ipv4Addr::UNSPECIFIED.into(),
            state: MemberState::Suspect,
            unsaved: None,
        });
    }

    /// Takes a heartbeat. Returns what it changes, which counts as not written down until [`Self::on_saved`] says that it is:
    /// whoever writes it may be interrupted.
    ///
    /// # Errors
    /// If the node has said something later before, or begun a new life since.
    pub fn on_heartbeat(
        &mut self,
        now: Instant,
        from: IpAddr,
        heartbeat: Heartbeat,
    ) -> Result<Vec<Change>, Stale> {
        let mut changes = Vec::new();
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&heartbeat.node) {
            return Ok(changes);
        }
        let life = self.lives.on_heartbeat(&heartbeat)?;
        // It is there, whatever was about to be written down; what it has no more follows from what it says.
        self.lost.remove(&heartbeat.node);
        let before = self.nodes.remove(&heartbeat.node);
        if let Some(before) = before.as_ref().and_then(|node| node.heartbeat.as_ref()) {
            self.classes.remove(before);
        }
        if let Some(former) = before.as_ref().and_then(|node| node.heartbeat.as_ref())
            && former.boot != heartbeat.boot
        {
            self.away.on_lost(now, former);
        }
        let before = before.filter(|node| node.unsaved.is_none()).and_then(|node| node.heartbeat);
        let is_same_life = before.as_ref().is_some_and(|before| before.boot == heartbeat.boot);
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
        self.classes.add(&heartbeat);
        self.away.on_heartbeat(&heartbeat);
        let state = if heartbeat.is_draining { MemberState::Draining } else { MemberState::Ready };
        self.placement.on_heartbeat(now, &heartbeat, life, state);
        self.nodes.insert(name, Node { heard: now, heartbeat: Some(heartbeat), from, state, unsaved });
        Ok(changes)
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

    /// Looks at how long nodes have been silent. Those that were too long are forgotten, and their names returned.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<String> {
        let before = self.looked.replace(now).unwrap_or(now);
        let paused = now.saturating_duration_since(before);
        if paused > LOOK_PAUSE {
            // This process stood still and could hear nobody.
            self.nodes.values_mut().for_each(|node| node.heard = now.min(node.heard + paused));
        }
        self.away.on_timeout(now);
        let silence = |node: &Node| now.saturating_duration_since(node.heard);
        let heard = self.nodes.values().filter(|node| node.heartbeat.is_some()).count();
        let vanished = |node: &&Node| {
            let silence = silence(node);
            node.heartbeat.is_some() && silence >= SUSPECT_AFTER && silence < HALF_MAX
        };
        let vanished = self.nodes.values().filter(vanished).count();
        let is_ours = heard >= HALF_OF_MIN && vanished * 2 > heard;
        let is_gone = |node: &Node| {
            let silence = silence(node);
            silence >= SILENCE_MAX && !(is_ours && node.heartbeat.is_some() && silence < HALF_MAX)
        };
        let gone: Vec<_> = self.nodes.extract_if(.., |_, node| is_gone(node)).collect();
        for (name, node) in &gone {
            if let Some(heartbeat) = &node.heartbeat {
                self.classes.remove(heartbeat);
                self.placement.on_gone(name);
                self.away.on_lost(now, heartbeat);
            }
            self.lost.insert(name.clone());
        }
        for (name, node) in &mut self.nodes {
            if node.state == MemberState::Ready && silence(node) >= SUSPECT_AFTER && !is_ours {
                node.state = MemberState::Suspect;
                self.placement.on_state(name, node.state);
            }
        }
        gone.into_iter().map(|(name, _)| name).collect()
    }

    /// The nodes that fell silent since this was asked before, and were not heard again meanwhile.
    pub fn take_lost(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.lost).into_iter().map(|node| Change::Lost { node }).collect()
    }

    /// Whether a class can be watched now.
    pub fn is_live(&self, class: &str) -> bool {
        self.reports(class).any(|(_, report)| report.state == StreamState::Active)
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

    /// Nodes that have been heard lately.
    pub fn heard(&self, now: Instant) -> Vec<String> {
        self.nodes.keys().filter(|name| self.is_heard(now, name)).cloned().collect()
    }

    /// A node that has been heard, and from where.
    pub fn node(&self, name: &str) -> Option<(&Heartbeat, IpAddr)> {
        let node = self.nodes.get(name)?;
        Some((node.heartbeat.as_ref()?, node.from))
    }

    /// Nodes that have been heard.
    pub fn nodes(&self) -> Vec<String> {
        let heard = self.nodes.iter().filter(|(_, node)| node.heartbeat.is_some());
        heard.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a node that has been heard lately says that it has no such session.
    pub fn denies(&self, now: Instant, node: &str, session: &str) -> bool {
        let known = self.nodes.get(node).filter(|_| self.is_heard(now, node));
        let heartbeat = known.and_then(|node| node.heartbeat.as_ref());
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
