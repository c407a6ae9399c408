//! Which node a viewer is sent to.
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use control::api::{Heartbeat, NodeLoad, StreamReport};
use thiserror::Error;

use super::loads::Source;
use super::{Node, Registry};
use crate::assign::{Assignment, Explanation, LoadReport, Member, MemberState, NoRoom, Request};

/// Coordinators of one system at most.
const COORDINATORS_MAX: u32 = 64;
/// No node sends more than this: 10 Tbit/s.
const CAPACITY_MAX_BPS: u64 = 10_000_000_000_000;

/// Who wants to watch what.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The class.
    pub class: &'a str,
    /// The viewer.
    pub viewer: &'a str,
    /// The node that it was sent to before.
    pub hint: Option<&'a str>,
    /// Nodes that it could not reach.
    pub excluded: &'a [&'a str],
    /// Where it is to stay.
    pub region: Option<&'a str>,
}

/// A viewer cannot be sent anywhere.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoNode {
    /// No node is there, or none that the viewer did not exclude.
    #[error("there is no node")]
    Nobody,
    /// All are full.
    #[error("all nodes are full")]
    Full {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// The loads of the nodes, and where viewers of which stream go.
#[derive(Default)]
pub(super) struct Placement {
    assignment: Assignment,
    /// How many coordinators each of them hears.
    coordinators: BTreeMap<String, u32>,
    pub(super) members: BTreeMap<String, Entry>,
    /// The members are not yet those of the assignment: at a start thousands come in a second.
    is_changed: bool,
    origin: Option<Instant>,
}

/// A node as it is known last.
pub(super) struct Entry {
    member: Member,
    /// Of its present life.
    pub(super) report: LoadReport,
    pub(super) source: Source,
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl Placement {
    /// A node says what it carries, in its life of this number.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Instant,
        heartbeat: &Heartbeat,
        life: u64,
        state: MemberState,
    ) {
        let Heartbeat { node, seq, load, region, .. } = heartbeat;
        let capacity_bps = load.capacity_bps.min(CAPACITY_MAX_BPS);
        let member = Member { name: node.clone(), capacity_bps, region: region.clone(), state };
        let report = load_report(life, *seq, load);
        let heard = heartbeat.coordinators.clamp(1, COORDINATORS_MAX);
        if self.coordinators.insert(node.clone(), heard) != Some(heard) {
            // Each of them hands out as many joins as this one.
            self.assignment.set_coordinators(self.coordinators.values().copied().max().unwrap_or(1));
        }
        let Some(entry) = self.members.get_mut(node) else {
            self.members.insert(node.clone(), Entry { member, report, source: Source::new(now) });
            self.is_changed = true;
            return;
        };
        self.is_changed |= entry.member != member;
        entry.member = member;
        if entry.report.boot != life {
            entry.source.begin(now);
        }
        if !entry.source.serves(now) {
            self.take(node, report);
        }
    }

    /// Takes over a report of a member unless a later one is known.
    pub(super) fn take(&mut self, node: &str, report: LoadReport) {
        let at = |report: &LoadReport| (report.boot, report.seq);
        if let Some(entry) = self.members.get_mut(node).filter(|entry| at(&entry.report) < at(&report)) {
            entry.report = report;
            self.assignment.report_load(node, &report);
        }
    }

    pub(super) fn on_state(&mut self, node: &str, state: MemberState) {
        if let Some(Entry { member, .. }) = self.members.get_mut(node) {
            member.state = state;
            self.is_changed = true;
        }
    }

    pub(super) fn on_gone(&mut self, node: &str) {
        self.is_changed |= self.members.remove(node).is_some();
        self.coordinators.remove(node);
    }

    pub(super) fn assignment(&mut self) -> &mut Assignment {
        if std::mem::take(&mut self.is_changed) {
            self.assignment.set_members(self.members.values().map(|entry| entry.member.clone()).collect());
            // Of those that were no members before; the others' are known.
            self.members.iter().for_each(|(name, entry)| self.assignment.report_load(name, &entry.report));
        }
        &mut self.assignment
    }

    fn since(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.origin.get_or_insert(now))
    }
}

/// What a node says of its load, in its life of this number.
pub(super) fn load_report(life: u64, seq: u64, load: &NodeLoad) -> LoadReport {
    let load_bps = load.load_bps.max(load.egress_bps).min(CAPACITY_MAX_BPS);
    let NodeLoad { joins_seen, cpu, loss, .. } = *load;
    LoadReport { boot: life, seq, load_bps, joins_seen, cpu, loss }
}

impl Registry {
    /// The node that a viewer is sent to, and where it is. The join counts as load until the node says that it has seen it.
    ///
    /// # Errors
    /// If no node is there, or every one is full.
    pub fn place(&mut self, now: Instant, wish: &Wish<'_>) -> Result<(&Heartbeat, IpAddr), NoNode> {
        let request = self.request(wish);
        let now = self.placement.since(now);
        let assignment = self.placement.assignment();
        let name = match assignment.assign(now, &request) {
            Ok(placed) => assignment.member(placed.node).map(|member| member.name.clone()),
            Err(NoRoom { retry_after }) => Some(self.without_choice(wish, retry_after)?.to_owned()),
        };
        let node = name.and_then(|name| self.nodes.get(&name)).ok_or(NoNode::Nobody)?;
        Ok((node.heartbeat().ok_or(NoNode::Nobody)?, node.from))
    }

    /// Why a viewer would be sent where it would be sent now.
    pub fn explain(&mut self, now: Instant, wish: &Wish<'_>) -> Explanation {
        let request = self.request(wish);
        let now = self.placement.since(now);
        self.placement.assignment().explain(now, &request)
    }

    /// Where only one node is left, it says itself when it is full; where all are silent, they may be there all the same.
    fn without_choice(&self, wish: &Wish<'_>, retry_after: Duration) -> Result<&str, NoNode> {
        let members = self.placement.members.values().map(|entry| &entry.member);
        let free = members.filter(|member| {
            !wish.excluded.contains(&member.name.as_str())
                && wish.region.is_none_or(|region| region == member.region)
        });
        let (mut ready, mut suspects) = (Vec::new(), Vec::new());
        for member in free {
            match member.state {
                MemberState::Ready => ready.push(&*member.name),
                MemberState::Suspect => suspects.push(&*member.name),
                MemberState::Draining | MemberState::Dead => {}
            }
        }
        match (&ready[..], &suspects[..]) {
            ([], []) => Err(NoNode::Nobody),
            ([only], _) | ([], [only, ..]) => Ok(only),
            _ => Err(NoNode::Full { retry_after }),
        }
    }

    fn request<'a>(&self, wish: &Wish<'a>) -> Request<'a> {
        let Wish { class, viewer, hint, excluded, region } = *wish;
        let (mut viewers, mut cost_bps) = (0_u64, 0);
        for (_, report) in self.reports(class) {
            viewers += u64::from(report.viewers);
            cost_bps = cost_bps.max(report.bitrate_bps);
        }
        let cost_bps = Some(cost_bps).filter(|bps| *bps > 0).unwrap_or(StreamReport::RATE_USUAL_BPS);
        Request { stream: class, viewer, cost_bps, viewers, hint, excluded, region }
    }
}

impl Node {
    /// What it said last, if it has said anything.
    pub(super) fn heartbeat(&self) -> Option<&Heartbeat> {
        self.heartbeat.as_ref()
    }
}
