//! The nodes, their loads in sum, and the walk that finds the node of a viewer.

use super::explain::{Look, Place, Verdict};
use super::node::{Node, share};
use super::{
    CLUSTER_MARGIN_PPM, HARD_PPM, How, LoadReport, Member, MemberState, Request, SLICES_PER_NODE, SOFT_PPM,
    score,
};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// Nodes that are ranked when a stream is first asked for; more only if the walk goes further.
const FIRST_RANKS: usize = 16;

/// Sums over the ready nodes of a region.
#[derive(Clone, Default)]
struct Totals {
    capacity: u128,
    load: u128,
}

#[derive(Clone)]
pub(super) struct Cluster {
    /// By name, so that an index orders as the name does and the order of the input is of no matter.
    nodes: Vec<Node>,
    regions: HashMap<String, Totals>,
    whole: Totals,
    /// Counts the changes of names and static capacities: all that ranks depend on.
    ranking: u64,
    coordinators: u64,
    second: u64,
}

/// The nodes by their score for one stream: the best of them, more on demand.
#[derive(Clone, Default)]
pub(super) struct Order {
    ranking: u64,
    ranked: Vec<u32>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            regions: HashMap::new(),
            whole: Totals::default(),
            ranking: 1,
            coordinators: 1,
            second: 0,
        }
    }
}

impl Cluster {
    pub(super) fn set_members(&mut self, mut members: Vec<Member>) {
        members.sort();
        members.dedup_by(|second, first| second.name == first.name);
        let weights = |member: &Member| (member.name.clone(), member.capacity_bps);
        if !self.nodes.iter().map(|node| weights(&node.member)).eq(members.iter().map(weights)) {
            self.ranking += 1;
        }
        let mut known: HashMap<String, Node> =
            self.nodes.drain(..).map(|node| (node.member.name.clone(), node)).collect();
        for member in members {
            let node = match known.remove(&member.name) {
                Some(mut node) => {
                    node.member = member;
                    node
                }
                None => Node::new(member),
            };
            self.nodes.push(node);
        }
        self.nodes.iter_mut().for_each(Node::weigh);
        self.sum();
    }

    pub(super) fn set_coordinators(&mut self, live: u32) {
        self.coordinators = u64::from(live.max(1));
        self.sum();
    }

    pub(super) fn coordinators(&self) -> u64 {
        self.coordinators
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let index = self.nodes.binary_search_by(|node| node.member.name.as_str().cmp(name)).ok()?;
        u32::try_from(index).ok()
    }

    pub(super) fn get(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    pub(super) fn report(&mut self, node: u32, report: &LoadReport) {
        self.change(node, |node, coordinators| node.report(report, coordinators));
    }

    /// Changes one node and keeps the sums right.
    fn change(&mut self, node: u32, change: impl FnOnce(&mut Node, u64)) {
        let Some(node) = self.nodes.get_mut(node as usize) else { return };
        let before = (node.capacity(), node.load(self.coordinators));
        change(node, self.coordinators);
        if node.member.state == MemberState::Ready {
            let after = (node.capacity(), node.load(self.coordinators));
            for sums in
                [Some(&mut self.whole), self.regions.get_mut(&node.member.region)].into_iter().flatten()
            {
                sums.capacity = sums.capacity - u128::from(before.0) + u128::from(after.0);
                sums.load = sums.load - u128::from(before.1) + u128::from(after.1);
            }
        }
    }

    pub(super) fn admit(&mut self, node: u32, cost: u64) {
        let second = self.second;
        self.change(node, |node, _| node.admit(second, cost));
    }

    /// Lets the joins expire that never came. A clock that goes back counts as standing.
    pub(super) fn advance(&mut self, now: Duration) {
        if now.as_secs() <= self.second {
            return;
        }
        self.second = now.as_secs();
        let mut expired = false;
        for node in &mut self.nodes {
            expired |= node.expire(self.second);
        }
        if expired {
            self.sum();
        }
    }

    /// What a join of `request` adds to a load: the other coordinators may admit one at the same moment.
    pub(super) fn step(&self, request: &Request<'_>) -> u64 {
        request.cost_bps.saturating_mul(self.coordinators)
    }

    /// Utilisation of the ready nodes that `request` may use, after this join.
    pub(super) fn utilisation_ppm(&self, request: &Request<'_>) -> u64 {
        let none = Totals::default();
        let sums = request.region.map_or(&self.whole, |region| self.regions.get(region).unwrap_or(&none));
        let load = sums.load + u128::from(self.step(request));
        u64::try_from(load.saturating_mul(1_000_000) / sums.capacity.max(1)).unwrap_or(u64::MAX)
    }

    /// The bound of this join as a share of each node's capacity.
    pub(super) fn bound_ppm(&self, request: &Request<'_>) -> u64 {
        let raised = self.utilisation_ppm(request).saturating_mul(CLUSTER_MARGIN_PPM) / 1_000_000;
        raised.clamp(SOFT_PPM, HARD_PPM)
    }

    /// Whether `request` may go to `node` under `limit_ppm` of its capacity, and why not.
    fn judge(&self, node: &Node, request: &Request<'_>, limit_ppm: u64) -> Verdict {
        let capacity = node.capacity();
        let step = self.step(request);
        let load = node.load(self.coordinators).saturating_add(step);
        let raw = node.reported.saturating_add(node.pending(self.coordinators)).saturating_add(step);
        if node.member.state != MemberState::Ready {
            Verdict::NotReady
        } else if request.excluded.contains(&node.member.name.as_str()) {
            Verdict::Excluded
        } else if request.region.is_some_and(|region| region != node.member.region) {
            Verdict::OtherRegion
        } else if capacity == 0 {
            Verdict::NoCapacity
        } else if node.hot {
            Verdict::Hot
        } else if load > share(capacity, limit_ppm) || raw > share(capacity, HARD_PPM) {
            Verdict::AboveBound
        } else {
            Verdict::Fits
        }
    }

    /// The node for `request`, or none. `demand` is the bit rate that the preferred nodes must carry;
    /// `see` is told each look, so that an explanation comes from the decision itself.
    pub(super) fn place(
        &self,
        request: &Request<'_>,
        demand: u64,
        order: &mut Order,
        see: &mut impl FnMut(Look),
    ) -> Option<(u32, How)> {
        if let Some(index) = request.hint.and_then(|name| self.find(name))
            && let Some(node) = self.get(index)
        {
            let verdict = self.judge(node, request, HARD_PPM);
            see(Look { node: index, place: Place::Hint, rank: 0, score: 0, limit_ppm: HARD_PPM, verdict });
            if verdict == Verdict::Fits {
                return Some((index, How::Sticky));
            }
        }
        let bound = self.bound_ppm(request);
        // A bound that follows the mean can leave room unused, when few nodes remain to choose from:
        // nobody is refused for that.
        self.walk(request, demand, bound, order, see).or_else(|| {
            if bound < HARD_PPM { self.walk(request, demand, HARD_PPM, order, see) } else { None }
        })
    }

    fn walk(
        &self,
        request: &Request<'_>,
        demand: u64,
        limit_ppm: u64,
        order: &mut Order,
        see: &mut impl FnMut(Look),
    ) -> Option<(u32, How)> {
        let viewer_key = score::hash(&[request.stream, request.viewer]);
        let mut carried = None::<u64>;
        let mut best = None::<(u64, Reverse<u32>)>;
        for rank in 0.. {
            let Some(index) = order.get(rank, request.stream, self) else { break };
            let Some(node) = self.get(index) else { break };
            let verdict = self.judge(node, request, limit_ppm);
            let place = match verdict {
                Verdict::Fits | Verdict::AboveBound if carried.is_none_or(|sum| sum < demand) => {
                    Place::Preferred
                }
                Verdict::Fits | Verdict::AboveBound => Place::Overflow,
                _ => Place::PassedOver,
            };
            if place == Place::Overflow && best.is_some() {
                break;
            }
            let score = if place == Place::Preferred {
                let slice = node.member.capacity_bps / SLICES_PER_NODE;
                carried = Some(carried.unwrap_or(0).saturating_add(slice));
                score::score(node.member.capacity_bps, node.hash, viewer_key)
            } else {
                0
            };
            see(Look { node: index, place, rank, score, limit_ppm, verdict });
            match place {
                Place::Overflow if verdict == Verdict::Fits => return Some((index, How::Overflow)),
                Place::Preferred if verdict == Verdict::Fits => {
                    best = best.max(Some((score, Reverse(index))));
                }
                _ => {}
            }
        }
        best.map(|(_, Reverse(index))| (index, How::Preferred))
    }

    fn sum(&mut self) {
        (self.whole, self.regions) = (Totals::default(), HashMap::new());
        for node in self.nodes.iter().filter(|node| node.member.state == MemberState::Ready) {
            let region = self.regions.entry(node.member.region.clone()).or_default();
            for sums in [&mut self.whole, region] {
                sums.capacity += u128::from(node.capacity());
                sums.load += u128::from(node.load(self.coordinators));
            }
        }
    }
}

impl Order {
    /// The node of `rank` for `stream`; ranks more nodes where needed.
    fn get(&mut self, rank: usize, stream: &str, cluster: &Cluster) -> Option<u32> {
        if self.ranking != cluster.ranking {
            *self = Self { ranking: cluster.ranking, ranked: Vec::new() };
        }
        if rank >= self.ranked.len() && self.ranked.len() < cluster.nodes.len() {
            self.extend((4 * self.ranked.len()).max(FIRST_RANKS), stream, cluster);
        }
        self.ranked.get(rank).copied()
    }

    fn extend(&mut self, wanted: usize, stream: &str, cluster: &Cluster) {
        let key = score::hash(&[stream]);
        let mut scores: Vec<(u64, u32)> = (0..)
            .zip(&cluster.nodes)
            .map(|(index, node)| (score::score(node.member.capacity_bps, node.hash, key), index))
            .collect();
        let higher = |a: &(u64, u32), b: &(u64, u32)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
        if wanted < scores.len() {
            scores.select_nth_unstable_by(wanted, higher);
            scores.truncate(wanted);
        }
        scores.sort_unstable_by(higher);
        self.ranked = scores.into_iter().map(|(_, index)| index).collect();
    }
}
