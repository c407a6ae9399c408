use super::super::relay::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("node-{n:03}")).collect()
}

fn edges(names: &[String]) -> Vec<Edge<'_>> {
    (1..).zip(names).map(|(n, name)| Edge { name, capacity_bps: 1_000_000 * (1 + n % 4) }).collect()
}

fn tree<'a>(stream: &str, origin: &'a str, edges: &[Edge<'a>]) -> HashMap<&'a str, &'a str> {
    parents(stream, origin, edges).into_iter().collect()
}

/// Edges whose parent differs, with the old and the new one; those that are in both trees.
fn moves<'a>(
    before: &HashMap<&'a str, &'a str>,
    after: &HashMap<&'a str, &'a str>,
) -> Vec<(&'a str, &'a str, &'a str)> {
    let pairs = after.iter().filter_map(|(edge, new)| Some((*edge, *before.get(edge)?, *new)));
    pairs.filter(|(_, old, new)| old != new).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_edge_has_a_parent_at_depth_one_and_no_node_too_many_children(count in 0usize..700, stream in "[a-z]{1,8}") {
        let names = names(count);
        let tree = tree(&stream, "origin", &edges(&names));
        prop_assert_eq!(tree.len(), count);
        let mut children: HashMap<&str, usize> = HashMap::new();
        for (edge, parent) in &tree {
            prop_assert!(edge != parent);
            prop_assert!(*parent == "origin" || tree.get(parent) == Some(&"origin"));
            *children.entry(*parent).or_default() += 1;
        }
        let beyond = count.saturating_sub(FIRST_LEVEL_EDGES * (1 + CHILDREN_PER_EDGE));
        for (parent, count) in children {
            let most = if parent == "origin" { FIRST_LEVEL_EDGES + beyond } else { CHILDREN_PER_EDGE };
            prop_assert!(count <= most, "{} feeds {}", parent, count);
        }
    }

    #[test]
    fn the_same_edges_in_any_order_give_the_same_tree(
        shuffled in (0usize..60).prop_flat_map(|count| Just((0..count).collect::<Vec<_>>()).prop_shuffle()),
    ) {
        let names = names(shuffled.len());
        let sorted = edges(&names);
        let mut other: Vec<Edge<'_>> = shuffled.iter().map(|n| sorted[*n]).collect();
        other.extend(sorted.first().copied());
        other.push(Edge { name: "origin", capacity_bps: 9 });
        prop_assert_eq!(tree("class", "origin", &sorted), tree("class", "origin", &other));
        prop_assert_eq!(parents("class", "origin", &other).len(), sorted.len());
    }

    #[test]
    fn removing_a_node_moves_only_its_children_and_one_edge_up_to_the_origin(count in 1usize..100, gone in 0usize..100) {
        let names = names(count);
        let mut edges = edges(&names);
        let before = tree("class", "origin", &edges);
        let gone = edges.remove(gone % count).name;
        let moves = moves(&before, &tree("class", "origin", &edges));
        let others: Vec<_> = moves.iter().filter(|(_, old, _)| *old != gone).collect();
        prop_assert!(others.len() <= 1 && others.iter().all(|(_, _, new)| *new == "origin"), "{:?}", others);
        if before[gone] != "origin" {
            prop_assert!(moves.is_empty());
        }
    }

    #[test]
    fn adding_a_node_moves_edges_only_to_it_and_one_down_from_the_origin(count in 0usize..100) {
        let names = names(count);
        let mut edges = edges(&names);
        let before = tree("class", "origin", &edges);
        edges.push(Edge { name: "new", capacity_bps: 4_000_000 });
        let moves = moves(&before, &tree("class", "origin", &edges));
        let others: Vec<_> = moves.iter().filter(|(_, _, new)| *new != "new").collect();
        prop_assert!(others.len() <= 1 && others.iter().all(|(_, old, _)| *old == "origin"), "{:?}", others);
    }
}

#[test]
fn few_edges_pull_from_the_origin() {
    for count in 0..=FIRST_LEVEL_EDGES {
        let names = names(count);
        assert!(tree("class", "origin", &edges(&names)).values().all(|parent| *parent == "origin"));
    }
}

#[test]
fn the_edge_that_ranks_first_pulls_from_the_origin() {
    let mut names = names(50);
    names.push("large".to_owned());
    let mut edges = edges(&names);
    edges[50].capacity_bps = u64::MAX;
    assert_eq!(tree("class", "origin", &edges)["large"], "origin");
}

#[test]
fn children_are_shared_among_the_first_level() {
    let names = names(200);
    let mut children: HashMap<&str, usize> = HashMap::new();
    for parent in tree("class", "origin", &edges(&names)).into_values() {
        *children.entry(parent).or_default() += 1;
    }
    assert_eq!(children.len(), 1 + FIRST_LEVEL_EDGES);
    assert!(children.values().all(|count| (5..50).contains(count)), "{children:?}");
}

#[test]
fn an_assignment_knows_the_parent_of_an_edge() {
    let assignment = super::cluster(super::members(30, 1));
    let names: Vec<String> = (0..30).map(|n| format!("node-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let weigh = |n: usize| Edge { name: names[n], capacity_bps: super::GIGABIT * (1 + n as u64 % 4) };
    let edges: Vec<Edge<'_>> = (0..30).map(weigh).collect();
    let tree = tree("class", "node-7", &edges);
    for edge in &names {
        assert_eq!(assignment.parent("class", "node-7", &names, edge), tree.get(edge).copied());
    }
    assert_eq!(assignment.parent("class", "node-7", &names, "node-7"), None);
    assert_eq!(assignment.parent("class", "node-7", &names, "stranger"), None);
}
