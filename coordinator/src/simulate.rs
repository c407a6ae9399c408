//! A school day on a large cluster: compares the assignment with simpler rules.
//!
//! All classes begin within ten minutes, every viewer joins at a random moment of these. Nodes report their
//! load every five seconds. Everything comes from a seed; only the speed depends on the clock passed in.

use crate::assign::{Assignment, LoadReport, Member, MemberState, Request, score};
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// All viewers join within this time.
const JOIN_PERIOD: Duration = Duration::from_mins(10);
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// The rate of the largest class, bits a second.
const LARGEST_BPS: u64 = 2_500_000;

/// A generator of random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which must not be zero.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from((u128::from(self.draw()) * limit as u128) >> 64).unwrap_or(0)
    }

    /// One of `choices`, each with the likelihood of its first part.
    fn pick<T: Copy>(&mut self, choices: &[(usize, T)], otherwise: T) -> T {
        let mut ticket = self.below(choices.iter().map(|(share, _)| share).sum());
        for (share, value) in choices {
            if ticket < *share {
                return *value;
            }
            ticket -= share;
        }
        otherwise
    }
}

/// A rule that decides where a viewer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// [`Assignment`], the viewers shared evenly by so many coordinators.
    Assignment(u32),
    /// All viewers of a stream go to the node that ranks first for it.
    HrwStream,
    /// Each viewer goes to the node that ranks first for it.
    HrwViewer,
    /// The less loaded of two random nodes, by the last reports.
    TwoChoices,
    /// The least loaded node, by the last reports.
    LeastLoaded,
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The rule.
    pub algorithm: Algorithm,
    /// Viewers that were placed.
    pub placed: usize,
    /// Viewers for whom there was no room.
    pub refused: usize,
    /// Load of all nodes in relation to their capacity.
    pub mean_utilisation: f64,
    /// That of the most loaded node.
    pub max_utilisation: f64,
    /// Nodes with viewers of a stream, on average: the number of pulls when the origin has no viewers. One
    /// less when the origin is one of these nodes.
    pub nodes_per_stream: f64,
    /// Nodes with viewers of the largest stream.
    pub nodes_of_largest: usize,
    /// Viewers of the node that dies, who must move.
    pub moved_with_node: usize,
    /// Other viewers who would go elsewhere if all came back without a hint after the node's death.
    pub moved_besides: usize,
    /// Joins decided in a second, reports included.
    pub joins_per_second: f64,
}

struct Class {
    name: String,
    cost_bps: u64,
    size: usize,
}

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Nodes.
    pub nodes: usize,
    /// Classes of 50 viewers on average.
    pub streams: usize,
    /// Viewers of one class besides; 0: there is none.
    pub largest: usize,
    /// The load of all viewers together in relation to the capacity of all nodes.
    pub percent: u64,
}

/// Nodes, streams, and the order in which viewers join.
pub struct Scenario {
    members: Vec<Member>,
    classes: Vec<Class>,
    viewers: Vec<String>,
    /// The class of each viewer, in the order of joining.
    joins: Vec<usize>,
}

impl Scenario {
    /// Makes a cluster of this scale.
    pub fn new(seed: u64, scale: Scale) -> Self {
        let Scale { nodes, streams, largest, percent } = scale;
        let mut random = Random(seed);
        let mut classes: Vec<Class> = (0..streams)
            .map(|n| {
                let (least, most) = random
                    .pick(&[(945, (10, 60)), (45, (60, 300)), (9, (300, 1000)), (1, (1000, 5000))], (10, 60));
                let cost_bps = random.pick(&[(3, 1_500_000), (5, 2_500_000), (2, 4_000_000)], 2_500_000);
                Class { name: format!("class-{n:05}"), cost_bps, size: least + random.below(most - least) }
            })
            .collect();
        if largest > 0 {
            classes.push(Class { name: "largest".to_owned(), cost_bps: LARGEST_BPS, size: largest });
        }
        let sizes: Vec<u64> = (0..nodes).map(|_| random.pick(&[(3, 5), (5, 10), (2, 20)], 10)).collect();
        let demand: u64 = classes.iter().map(|class| class.size as u64 * class.cost_bps).sum();
        let unit = demand * 100 / percent.max(1) / sizes.iter().sum::<u64>().max(1);
        let members = (0..).zip(sizes).map(|(n, size): (usize, u64)| Member {
            name: format!("node-{n:04}"),
            capacity_bps: size * unit,
            region: String::new(),
            state: MemberState::Ready,
        });
        let mut members: Vec<Member> = members.collect();
        members.sort(); // by name, as the assignment numbers them
        let mut joins: Vec<usize> =
            classes.iter().enumerate().flat_map(|(n, class)| std::iter::repeat_n(n, class.size)).collect();
        for last in (1..joins.len()).rev() {
            joins.swap(last, random.below(last + 1));
        }
        let viewers = (0..joins.len()).map(|n| format!("viewer-{n:07}")).collect();
        Self { members, classes, viewers, joins }
    }

    /// Places all viewers by `algorithm`, twice: with all nodes, and without the node in the middle of the
    /// list. `clock` gives the time for the speed.
    pub fn run(&self, algorithm: Algorithm, clock: &dyn Fn() -> Duration) -> Figures {
        let dead = self.members.len() / 2;
        let start = clock();
        let places = self.place(algorithm, None);
        let seconds = (clock() - start).as_secs_f64();
        let after = self.place(algorithm, Some(dead));

        let mut load = vec![0u64; self.members.len()];
        let mut pairs = Vec::new();
        for (place, class) in places.iter().zip(&self.joins) {
            if let Some(node) = place {
                load[*node] += self.classes[*class].cost_bps;
                pairs.push((*class, *node));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let capacities = || self.members.iter().map(|member| member.capacity_bps);
        let utilisation = load.iter().zip(capacities()).map(|(load, all)| *load as f64 / all.max(1) as f64);
        let largest = (0..self.classes.len()).max_by_key(|class| self.classes[*class].size);
        let placed = places.iter().flatten().count();
        let changed = places.iter().zip(&after).filter(|(place, after)| place != after);
        Figures {
            algorithm,
            placed,
            refused: places.len() - placed,
            mean_utilisation: load.iter().sum::<u64>() as f64 / capacities().sum::<u64>().max(1) as f64,
            max_utilisation: utilisation.fold(0.0, f64::max),
            nodes_per_stream: pairs.len() as f64 / self.classes.len().max(1) as f64,
            nodes_of_largest: pairs.iter().filter(|(class, _)| Some(*class) == largest).count(),
            moved_with_node: places.iter().filter(|place| **place == Some(dead)).count(),
            moved_besides: changed.filter(|(place, _)| **place != Some(dead)).count(),
            joins_per_second: self.joins.len() as f64 / seconds,
        }
    }

    fn place(&self, algorithm: Algorithm, dead: Option<usize>) -> Vec<Option<usize>> {
        let mut world = World::new(self, algorithm, dead);
        let mut next_report = REPORT_EVERY;
        let mut places = Vec::with_capacity(self.joins.len());
        for (n, class) in self.joins.iter().enumerate() {
            let now = JOIN_PERIOD.mul_f64(n as f64 / self.joins.len() as f64);
            if now >= next_report {
                world.report(now);
                next_report += REPORT_EVERY;
            }
            places.push(world.join(n, *class, now));
        }
        places
    }
}

/// The cluster while viewers join.
struct World<'a> {
    scenario: &'a Scenario,
    algorithm: Algorithm,
    alive: Vec<usize>,
    hashes: Vec<u64>,
    load: Vec<u64>,
    reported: Vec<u64>,
    viewers: Vec<u64>,
    reported_viewers: Vec<u64>,
    first: Vec<Option<usize>>,
    coordinators: Vec<(Assignment, Vec<u64>)>,
    random: Random,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, algorithm: Algorithm, dead: Option<usize>) -> Self {
        let members = &scenario.members;
        let mut alive = members.clone();
        if let Some(dead) = dead {
            alive[dead].state = MemberState::Dead;
        }
        let live = if let Algorithm::Assignment(live) = algorithm { live } else { 0 };
        let mut assignment = Assignment::new();
        assignment.set_members(alive);
        assignment.set_coordinators(live);
        Self {
            scenario,
            algorithm,
            alive: (0..members.len()).filter(|node| Some(*node) != dead).collect(),
            hashes: members.iter().map(|member| score::hash(&[&member.name])).collect(),
            load: vec![0; members.len()],
            reported: vec![0; members.len()],
            viewers: vec![0; scenario.classes.len()],
            reported_viewers: vec![0; scenario.classes.len()],
            first: vec![None; scenario.classes.len()],
            coordinators: (0..live).map(|_| (assignment.clone(), vec![0; members.len()])).collect(),
            random: Random(dead.map_or(1, |_| 2)),
        }
    }

    fn report(&mut self, now: Duration) {
        self.reported.clone_from(&self.load);
        self.reported_viewers.clone_from(&self.viewers);
        for (assignment, joins) in &mut self.coordinators {
            for ((member, load_bps), joins_seen) in self.scenario.members.iter().zip(&self.load).zip(joins) {
                let (load_bps, joins_seen) = (*load_bps, *joins_seen);
                let report = LoadReport { seq: now.as_secs(), load_bps, joins_seen, ..LoadReport::default() };
                assignment.report_load(&member.name, &report);
            }
        }
    }

    fn join(&mut self, viewer: usize, class: usize, now: Duration) -> Option<usize> {
        let node = self.choose(viewer, class, now)?;
        self.load[node] += self.scenario.classes[class].cost_bps;
        self.viewers[class] += 1;
        Some(node)
    }

    fn choose(&mut self, viewer: usize, class: usize, now: Duration) -> Option<usize> {
        let names = (self.scenario.classes[class].name.as_str(), self.scenario.viewers[viewer].as_str());
        match self.algorithm {
            Algorithm::Assignment(live) => {
                let (assignment, joins) = &mut self.coordinators[viewer % live.max(1) as usize];
                let request = Request {
                    stream: names.0,
                    viewer: names.1,
                    cost_bps: self.scenario.classes[class].cost_bps,
                    viewers: self.reported_viewers[class],
                    hint: None,
                    excluded: &[],
                    region: None,
                };
                let node = assignment.assign(now, &request).ok()?.node.index();
                joins[node] += 1;
                Some(node)
            }
            Algorithm::HrwStream => {
                if self.first[class].is_none() {
                    self.first[class] = self.ranked_first(score::hash(&[names.0]));
                }
                self.first[class]
            }
            Algorithm::HrwViewer => self.ranked_first(score::hash(&[names.0, names.1])),
            Algorithm::TwoChoices => {
                let one = self.alive[self.random.below(self.alive.len())];
                let other = self.alive[self.random.below(self.alive.len())];
                Some(if self.is_lower(other, one) { other } else { one })
            }
            Algorithm::LeastLoaded => {
                let lower = |one, other| if self.is_lower(other, one) { other } else { one };
                self.alive.iter().copied().reduce(lower)
            }
        }
    }

    fn ranked_first(&self, key: u64) -> Option<usize> {
        let score =
            |node: &usize| score::score(self.scenario.members[*node].capacity_bps, self.hashes[*node], key);
        self.alive.iter().copied().max_by_key(score)
    }

    /// Whether the last report of `one` shows a lower utilisation than that of `other`.
    fn is_lower(&self, one: usize, other: usize) -> bool {
        let capacity = |node: usize| u128::from(self.scenario.members[node].capacity_bps);
        u128::from(self.reported[one]) * capacity(other) < u128::from(self.reported[other]) * capacity(one)
    }
}

impl Display for Scenario {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (nodes, classes, viewers) = (self.members.len(), self.classes.len(), self.joins.len());
        writeln!(f, "{nodes} nodes, {classes} streams, {viewers} viewers")?;
        for range in [0..20, 20..40, 40..60, 60..100, 100..300, 300..1000, 1000..5000] {
            let count = self.classes.iter().filter(|class| range.contains(&class.size)).count();
            writeln!(f, "  {:4} to {:4} viewers: {count:6} streams", range.start, range.end - 1)?;
        }
        if let Some(largest) = self.classes.iter().map(|class| class.size).max() {
            writeln!(f, "  {largest} viewers: the largest")?;
        }
        let mut capacities: Vec<u64> = self.members.iter().map(|member| member.capacity_bps).collect();
        capacities.sort_unstable();
        for same in capacities.chunk_by(|a, b| a == b) {
            writeln!(f, "  {:4} nodes of {:.2} Gbit/s", same.len(), same[0] as f64 / 1e9)?;
        }
        Ok(())
    }
}

impl Figures {
    /// The heading of the table whose rows are the figures.
    pub const HEADING: &str = "rule                  mean   max    nodes/stream  of largest  refused  on dead node  besides   joins/s";
}

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:20}  {:.3}  ", format!("{:?}", self.algorithm), self.mean_utilisation)?;
        write!(f, "{:5.3}  {:12.3}  ", self.max_utilisation, self.nodes_per_stream)?;
        write!(f, "{:10}  {:7}  ", self.nodes_of_largest, self.refused)?;
        write!(f, "{:12}  {:7}  {:8.0}", self.moved_with_node, self.moved_besides, self.joins_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(nodes: usize, algorithm: Algorithm) -> Figures {
        let scale = Scale { nodes, streams: 20 * nodes, largest: 0, percent: 53 };
        Scenario::new(7, scale).run(algorithm, &|| Duration::ZERO)
    }

    /// The goals of the project, on a tenth of its cluster.
    #[test]
    fn at_53_percent_no_node_is_above_66_and_a_stream_is_on_few_nodes() {
        for coordinators in [1, 4] {
            let figures = figures(100, Algorithm::Assignment(coordinators));
            assert_eq!(figures.refused, 0);
            assert!((figures.mean_utilisation - 0.53).abs() < 0.001, "{figures}");
            assert!(figures.max_utilisation <= 0.66, "{figures}");
            assert!(figures.nodes_per_stream <= 1.5, "{figures}");
            assert!(figures.moved_besides * 50 < figures.placed, "{figures}");
        }
    }

    #[test]
    fn simpler_rules_overload_nodes_or_scatter_classes() {
        assert!(figures(40, Algorithm::HrwStream).max_utilisation > 1.0);
        assert!(figures(40, Algorithm::TwoChoices).nodes_per_stream > 10.0);
        let by_viewer = figures(40, Algorithm::HrwViewer);
        assert!(by_viewer.nodes_per_stream > 10.0 && by_viewer.moved_besides == 0, "{by_viewer}");
    }

    #[test]
    fn a_class_of_ten_thousand_is_on_as_many_nodes_as_its_rate_asks_for() {
        // 25 Gbit/s, on nodes of 6 Gbit/s on average, of each of which it may count on a tenth.
        let scale = Scale { nodes: 200, streams: 0, largest: 10_000, percent: 2 };
        let figures = Scenario::new(7, scale).run(Algorithm::Assignment(1), &|| Duration::ZERO);
        assert_eq!((figures.placed, figures.refused), (10_000, 0));
        assert!((25..=60).contains(&figures.nodes_of_largest), "{figures}");
        assert!(figures.max_utilisation <= 0.66, "{figures}");
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let twice = [(); 2].map(|()| figures(20, Algorithm::Assignment(2)));
        assert_eq!(twice[0], twice[1]);
    }
}
