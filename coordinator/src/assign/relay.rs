//! The relay tree of a stream: from which node each edge pulls it.

use super::score;
use std::cmp::Reverse;

/// Edges that pull from the origin itself.
pub const FIRST_LEVEL_EDGES: usize = 8;
/// Edges that one edge of the first level feeds.
pub const CHILDREN_PER_EDGE: usize = 64;

/// A node other than the origin that has the stream, or is about to.
#[derive(Clone, Copy, Debug)]
pub struct Edge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its static capacity, the weight of its rank.
    pub capacity_bps: u64,
}

/// The parent of every edge of `stream`, as pairs of edge and parent; the depth is at most 2.
///
/// There are [`FIRST_LEVEL_EDGES`] branches, and every edge prefers one by its hash. The edge of a branch
/// that ranks first for the stream is its head and pulls from the origin; so do the edges that rank first
/// among the others, as long as the origin feeds fewer than [`FIRST_LEVEL_EDGES`]. The rest pull from the
/// head of the branch they prefer, beyond [`CHILDREN_PER_EDGE`] from that of the next, and when all are
/// full from the origin. As branches are independent, a head that leaves moves only its own children, and
/// at most one further edge: up to the place that became free at the origin.
pub fn parents<'a>(stream: &str, origin: &'a str, edges: &[Edge<'a>]) -> Vec<(&'a str, &'a str)> {
    let key = score::hash(&[stream]);
    let mut ranked: Vec<(u64, &str)> = edges
        .iter()
        .filter(|edge| edge.name != origin)
        .map(|edge| (score::score(edge.capacity_bps.max(1), score::hash(&[edge.name]), key), edge.name))
        .collect();
    ranked.sort_unstable_by_key(|(score, name)| (*name, Reverse(*score)));
    ranked.dedup_by_key(|(_, name)| *name);
    ranked.sort_unstable_by_key(|(score, name)| (Reverse(*score), *name));
    let names: Vec<&str> = ranked.into_iter().map(|(_, name)| name).collect();
    let wishes: Vec<Vec<usize>> = names.iter().map(|name| branches(stream, name)).collect();

    let mut heads = [None; FIRST_LEVEL_EDGES];
    for (edge, wish) in wishes.iter().enumerate() {
        if let Some(branch) = wish.first() {
            heads[*branch].get_or_insert(edge);
        }
    }
    let mut places = FIRST_LEVEL_EDGES - heads.iter().flatten().count();
    let mut children = [0; FIRST_LEVEL_EDGES];
    let mut parent = |edge: usize| {
        if heads.contains(&Some(edge)) {
            return origin;
        }
        if places > 0 {
            places -= 1;
            return origin;
        }
        for branch in &wishes[edge] {
            if let Some(head) = heads[*branch]
                && children[*branch] < CHILDREN_PER_EDGE
            {
                children[*branch] += 1;
                return names[head];
            }
        }
        origin
    };
    (0..names.len()).map(|edge| (names[edge], parent(edge))).collect()
}

/// The branches in the order in which an edge prefers them.
fn branches(stream: &str, edge: &str) -> Vec<usize> {
    let key = score::hash(&[stream, edge]);
    let mut branches: Vec<(u64, usize)> =
        (0..FIRST_LEVEL_EDGES).map(|branch| (score::mix(branch as u64, key), branch)).collect();
    branches.sort_unstable();
    branches.into_iter().map(|(_, branch)| branch).collect()
}
