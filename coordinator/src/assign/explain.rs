//! Why a viewer goes where it goes.

use super::cluster::Cluster;
use super::node::share;
use super::{How, Request};
use serde::Serialize;
use std::cmp::Reverse;
use utoipa::ToSchema;

/// What was found about one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within its bound.
    Fits,
    /// With this join its load would be above the bound.
    AboveBound,
    /// Above 85 % lately and not yet below 80 %.
    Hot,
    /// Processor or loss leave it no capacity.
    NoCapacity,
    /// Not in the region that was asked for.
    OtherRegion,
    /// In the request's list of excluded nodes.
    Excluded,
    /// Suspect, draining or dead.
    NotReady,
}

/// Why a node was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Named by the viewer's last token.
    Hint,
    /// In the order of the stream, but out of the question.
    PassedOver,
    /// One of the k preferred nodes of the stream.
    Preferred,
    /// Behind them in the order of the stream.
    Overflow,
}

/// One look at a node during the decision.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) node: u32,
    pub(super) place: Place,
    pub(super) rank: usize,
    pub(super) score: u64,
    pub(super) limit_ppm: u64,
    pub(super) verdict: Verdict,
}

/// One node that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// Why it was looked at.
    pub place: Place,
    /// Its rank in the order of the stream, from 0.
    pub rank: usize,
    /// Its capacity at present.
    pub capacity_bps: u64,
    /// Its load in the last report.
    pub reported_bps: u64,
    /// Joins handed out that no report contains, those of the other coordinators estimated.
    pub pending_bps: u64,
    /// The load that counts: the reported one without its noise, and the pending joins.
    pub load_bps: u64,
    /// The bound that load and join together had to keep.
    pub bound_bps: u64,
    /// What was found.
    pub verdict: Verdict,
}

/// The steps of one decision, as the decision itself went through them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    /// The stream.
    pub stream: String,
    /// The viewer.
    pub viewer: String,
    /// The node, if there is room.
    pub node: Option<String>,
    /// By which rule it was found.
    pub how: Option<How>,
    /// What the join adds to a load: its cost, once for each coordinator.
    pub join_bps: u64,
    /// The bit rate of all viewers of the stream and this one.
    pub demand_bps: u64,
    /// The bit rate that the preferred nodes are chosen for; shrinks later than the demand.
    pub held_demand_bps: u64,
    /// How many nodes are preferred; 0 when the hint decided.
    pub k: usize,
    /// Utilisation of the ready nodes after this join, in millionths.
    pub utilisation_ppm: u64,
    /// The bound of every node for this join, in millionths of its capacity.
    pub bound_ppm: u64,
    /// Every node that was looked at, in the order of preference.
    pub candidates: Vec<Candidate>,
}

pub(super) fn explanation(
    cluster: &Cluster,
    request: &Request<'_>,
    (demand_bps, held_demand_bps): (u64, u64),
    mut looks: Vec<Look>,
    found: Option<(u32, How)>,
) -> Explanation {
    let preferred = || looks.iter().filter(|look| look.place == Place::Preferred).map(|look| look.limit_ppm);
    let first_pass = preferred().min();
    let k = preferred().filter(|limit| Some(*limit) == first_pass).count();
    looks.sort_by_key(|look| {
        let pass = if look.place == Place::Hint { 0 } else { look.limit_ppm };
        (pass, look.place, Reverse(look.score), look.rank)
    });
    let name = |node: u32| cluster.get(node).map(|node| node.member.name.clone());
    Explanation {
        stream: request.stream.to_owned(),
        viewer: request.viewer.to_owned(),
        node: found.and_then(|(node, _)| name(node)),
        how: found.map(|(_, how)| how),
        join_bps: cluster.step(request),
        demand_bps,
        held_demand_bps,
        k,
        utilisation_ppm: cluster.utilisation_ppm(request),
        bound_ppm: cluster.bound_ppm(request),
        candidates: looks.iter().filter_map(|look| candidate(cluster, look)).collect(),
    }
}

fn candidate(cluster: &Cluster, look: &Look) -> Option<Candidate> {
    let node = cluster.get(look.node)?;
    Some(Candidate {
        node: node.member.name.clone(),
        place: look.place,
        rank: look.rank,
        capacity_bps: node.capacity(),
        reported_bps: node.reported,
        pending_bps: node.pending(cluster.coordinators()),
        load_bps: node.load(cluster.coordinators()),
        bound_bps: share(node.capacity(), look.limit_ppm),
        verdict: look.verdict,
    })
}
