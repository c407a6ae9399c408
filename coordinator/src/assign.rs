//! Decides which node serves a viewer: two-level rendezvous hashing with floored bounds.
//!
//! A stream ranks all nodes (weighted rendezvous hashing, highest random weight). The first k of them, as
//! many as carry its viewers with a tenth of a node each, are preferred; among these a viewer takes the one
//! that scores highest for the pair of stream and viewer. So a class stays on few nodes, and coordinators
//! with the same members and loads decide alike without asking each other. When a node is lost, of the
//! viewers who bring a hint only its own move; without hints, if the class had several nodes, also some to
//! the node that takes its place. A bound on the load of each node sends viewers past a full node to the
//! next one of the stream's order:
//!
//! 1. the node of the viewer's last token, if it is eligible and stays below 85 %;
//! 2. of the k preferred nodes within the bound the one with the highest score for (stream, viewer);
//! 3. the first node of the rest of the order within the bound;
//! 4. the same once more with 85 % as the bound;
//! 5. none.
//!
//! The bound is 1.23 times the mean utilisation after the join, at least 60 % and at most 85 % of a node.
//! There is no clock, no randomness and no I/O here; time comes in as a `Duration` since some origin.

mod capacity;
mod cluster;
mod explain;
mod node;
mod relay;
pub(crate) mod score;
mod spread;
#[cfg(test)]
mod tests;

pub use capacity::{CPU_LIMITS, CPU_MARGIN, CapacityStep, LOSS_LIMITS, LOSS_SHARE, capacity_step};
pub use explain::{Candidate, Explanation, Place, Verdict};
pub use relay::{CHILDREN_PER_EDGE, Edge, FIRST_LEVEL_EDGES, parents};
pub use spread::SHRINK_AFTER;

use cluster::{Cluster, Order};
use explain::Look;
use serde::{Deserialize, Serialize};
use spread::Spread;
use std::collections::HashMap;
use std::time::Duration;
use utoipa::ToSchema;

/// No node is loaded above this share of its capacity (in millionths).
pub const HARD_PPM: u64 = 850_000;
/// The bound of a node is never below this share of its capacity.
pub const SOFT_PPM: u64 = 600_000;
/// A node above [`HARD_PPM`] takes new viewers again below this share.
pub const READMIT_PPM: u64 = 800_000;
/// The bound in relation to the mean utilisation: at a mean of 53 % no node is above 66 %.
pub const CLUSTER_MARGIN_PPM: u64 = 1_230_000;
/// One stream may count on a node's capacity divided by this.
pub const SLICES_PER_NODE: u64 = 10;

/// A stream that nobody joined for so long starts anew.
const FORGET_STREAM_AFTER: Duration = Duration::from_hours(1);
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Index of a node in the membership, valid until the next [`Assignment::set_members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The place of the node among all members in the order of their names.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the membership says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Takes viewers.
    Ready,
    /// Heartbeats are missing.
    Suspect,
    /// Keeps its viewers, takes no new ones.
    Draining,
    /// Gone.
    Dead,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its name, unique and lasting: this is what is hashed.
    pub name: String,
    /// Its static capacity in bit/s, the weight in all ranks.
    pub capacity_bps: u64,
    /// Its region.
    pub region: String,
    /// Its state.
    pub state: MemberState,
}

/// The part of a node's heartbeat that concerns its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Rises with each start of the node, for example the time of the start.
    pub boot: u64,
    /// Rises with each report since then; late and repeated reports are ignored.
    pub seq: u64,
    /// The load, in which every viewer that joined counts with at least its declared bit rate.
    pub load_bps: u64,
    /// Joins from this coordinator (this run of it) that the node saw since its start and that
    /// `load_bps` contains.
    pub joins_seen: u64,
    /// Busy fraction of the processor.
    pub cpu: f64,
    /// Lost fraction of the packets sent.
    pub loss: f64,
}

/// A viewer that wants to watch a stream.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The viewer.
    pub viewer: &'a str,
    /// The declared bit rate of the stream.
    pub cost_bps: u64,
    /// Viewers of the stream on all nodes, without this one.
    pub viewers: u64,
    /// The node in the viewer's last token for this stream.
    pub hint: Option<&'a str>,
    /// Nodes that must not be chosen.
    pub excluded: &'a [&'a str],
    /// The region to stay in.
    pub region: Option<&'a str>,
}

/// By which rule a node was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The node of the viewer's last token.
    Sticky,
    /// One of the preferred nodes of the stream.
    Preferred,
    /// All preferred nodes are at their bound, so the next one in the order of the stream.
    Overflow,
}

/// The decision for a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The node.
    pub node: NodeId,
    /// Why this one.
    pub how: How,
}

/// No node has room for the viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// For the header `Retry-After`; differs between viewers, so that they do not come back at once.
    pub retry_after: Duration,
}

/// The state of one coordinator: members, loads, and how wide each stream is spread.
#[derive(Clone, Default)]
pub struct Assignment {
    cluster: Cluster,
    streams: HashMap<String, Stream>,
    swept: Duration,
}

#[derive(Clone, Default)]
struct Stream {
    spread: Spread,
    order: Order,
    asked: Duration,
}

impl Assignment {
    /// An assignment without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over a new version of the membership. Loads stay with the names; of members with the same
    /// name the least one counts, whatever their order.
    pub fn set_members(&mut self, members: Vec<Member>) {
        self.cluster.set_members(members);
    }

    /// Sets how many coordinators hand out joins, this one included.
    pub fn set_coordinators(&mut self, live: u32) {
        self.cluster.set_coordinators(live);
    }

    /// Takes over the load from a node's heartbeat and forgets as many own joins, the oldest first, as the
    /// node has seen since its last report. A node that is not a member is ignored.
    pub fn report_load(&mut self, node: &str, report: &LoadReport) {
        if let Some(node) = self.cluster.find(node) {
            self.cluster.report(node, report);
        }
    }

    /// Finds the node for a viewer and counts the join.
    ///
    /// # Errors
    /// If no eligible node stays within 85 % of its capacity.
    pub fn assign(&mut self, now: Duration, request: &Request<'_>) -> Result<Placed, NoRoom> {
        self.cluster.advance(now);
        self.forget_streams(now);
        let stream = match self.streams.get_mut(request.stream) {
            Some(stream) => stream,
            None => self.streams.entry(request.stream.to_owned()).or_default(),
        };
        stream.asked = now;
        match stream.place(&self.cluster, now, request, &mut |_| ()) {
            Some((node, how)) => {
                self.cluster.admit(node, request.cost_bps);
                Ok(Placed { node: NodeId(node), how })
            }
            None => Err(NoRoom { retry_after: Duration::from_secs(2 + score::hash(&[request.viewer]) % 8) }),
        }
    }

    /// What [`Self::assign`] would do now and why: the same code on a copy of the state.
    pub fn explain(&self, now: Duration, request: &Request<'_>) -> Explanation {
        let mut cluster = self.cluster.clone();
        cluster.advance(now);
        let mut stream = self.streams.get(request.stream).cloned().unwrap_or_default();
        let mut looks: Vec<Look> = Vec::new();
        let found = stream.place(&cluster, now, request, &mut |look| looks.push(look));
        // The demand is taken over again, at the same time: that changes nothing.
        let held = stream.spread.update(now, demand(request));
        explain::explanation(&cluster, request, (demand(request), held), looks, found)
    }

    /// The member behind an id of the present membership.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.cluster.get(node.0).map(|node| &node.member)
    }

    /// The load of a node as the next decision will see it.
    pub fn load_bps(&self, node: &str) -> Option<u64> {
        let node = self.cluster.get(self.cluster.find(node)?)?;
        Some(node.load(self.cluster.coordinators()))
    }

    /// From which node `edge` pulls `stream`, that enters at `origin` and is on all of `edges`; `None` for
    /// the origin itself and for an edge that is not among them. See [`parents`].
    pub fn parent<'a>(
        &self,
        stream: &str,
        origin: &'a str,
        edges: &[&'a str],
        edge: &str,
    ) -> Option<&'a str> {
        let capacity = |name: &str| self.cluster.find(name).and_then(|node| self.cluster.get(node));
        let weighted: Vec<Edge<'a>> = edges
            .iter()
            .map(|name| Edge {
                name,
                capacity_bps: capacity(name).map_or(0, |node| node.member.capacity_bps),
            })
            .collect();
        parents(stream, origin, &weighted)
            .into_iter()
            .find(|(child, _)| *child == edge)
            .map(|(_, parent)| parent)
    }

    fn forget_streams(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.streams.retain(|_, stream| now.saturating_sub(stream.asked) < FORGET_STREAM_AFTER);
        }
    }
}

impl Stream {
    fn place(
        &mut self,
        cluster: &Cluster,
        now: Duration,
        request: &Request<'_>,
        see: &mut impl FnMut(Look),
    ) -> Option<(u32, How)> {
        let demand = self.spread.update(now, demand(request));
        cluster.place(request, demand, &mut self.order, see)
    }
}

/// The bit rate of all viewers of the stream and the new one.
fn demand(request: &Request<'_>) -> u64 {
    request.viewers.saturating_add(1).saturating_mul(request.cost_bps)
}
