//! What the rounds say together.
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::figures::{self, Figures};
use crate::report::table::Table;
use crate::report::{figure, median};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// One server's run through the work.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) round: u32,
    pub(super) side: Side,
    /// The server's cost and what the work found; empty when something failed.
    pub(super) figures: Figures,
    pub(super) error: Option<String>,
}

/// What a server used while the work was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) rss_before: f64,
    pub(super) rss_peak: f64,
}

impl Cost {
    /// Beside what the work found, and for each packet and viewer where it says how many there were.
    pub(super) fn add_to(self, figures: &mut Figures, packets: &str, viewers: &str) {
        let packets = figures::find(figures, packets).filter(|packets| *packets > 0.0);
        let viewers = figures::find(figures, viewers).filter(|viewers| *viewers > 0.0);
        let growth = (self.rss_peak - self.rss_before).max(0.0);
        let found = [
            ("server cpu s", Some(self.cpu_seconds)),
            ("server cpu %", Some(self.cpu_seconds * 100.0 / self.seconds.max(0.001))),
            ("server cpu µs per packet", packets.map(|packets| self.cpu_seconds * 1e6 / packets)),
            ("server rss MiB", Some(self.rss_peak / 1024.0 / 1024.0)),
            ("server rss KiB per viewer", viewers.map(|viewers| growth / 1024.0 / viewers)),
        ];
        figures.extend(found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
}

/// A figure of both.
#[derive(Debug, Serialize)]
struct Both {
    a: f64,
    b: f64,
    /// `None` when there is nothing to divide by.
    b_to_a: Option<f64>,
}

/// Every run, and the median of every figure that both have.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    medians: BTreeMap<String, Both>,
    runs: Vec<Run>,
}

impl Summary {
    pub(super) fn new(runs: Vec<Run>) -> Self {
        let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.figures.keys()).collect();
        let middle = |side: Side, name: &str| {
            let of_side = runs.iter().filter(|run| run.side == side);
            median(&mut of_side.filter_map(|run| run.figures.get(name).copied()).collect::<Vec<_>>())
        };
        let medians = names.into_iter().filter_map(|name| {
            let (a, b) = (middle(Side::A, name)?, middle(Side::B, name)?);
            let b_to_a = (a.abs() > f64::EPSILON).then(|| b / a);
            Some((name.clone(), Both { a, b, b_to_a }))
        });
        Self { medians: medians.collect(), runs }
    }

    /// Runs of that side that went through.
    pub(super) fn successes(&self, side: Side) -> usize {
        self.runs.iter().filter(|run| run.side == side && run.error.is_none()).count()
    }

    /// For people: the servers' costs first.
    pub(super) fn table(&self) -> String {
        let title = format!("medians of {} and {} runs", self.successes(Side::A), self.successes(Side::B));
        let mut table = Table::new(&[&title, "A", "B", "B : A"]);
        let is_cost = |name: &str| name.starts_with("server ");
        let costs = self.medians.iter().filter(|(name, _)| is_cost(name));
        for (name, both) in costs.chain(self.medians.iter().filter(|(name, _)| !is_cost(name))) {
            let ratio = both.b_to_a.map_or("-".to_owned(), figure);
            table.push([name.clone(), figure(both.a), figure(both.b), ratio]);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(side: Side, packets: f64, cpu_seconds: f64) -> Run {
        let mut figures = Figures::from([("packets".to_owned(), packets), ("viewers".to_owned(), 10.0)]);
        let mib = 1024.0 * 1024.0;
        Cost { seconds: 10.0, cpu_seconds, rss_before: 30.0 * mib, rss_peak: 40.0 * mib }.add_to(
            &mut figures,
            "packets",
            "viewers",
        );
        Run { round: 1, side, figures, error: None }
    }

    #[test]
    fn medians_and_ratios_are_of_what_both_have() {
        let mut runs = vec![
            run(Side::A, 1000.0, 2.0),
            run(Side::A, 1000.0, 1.0),
            run(Side::A, 1000.0, 9.0),
            run(Side::B, 1000.0, 4.0),
        ];
        runs[3].figures.insert("only here".to_owned(), 1.0);
        runs.push(Run { round: 2, side: Side::B, figures: Figures::new(), error: Some("lost".to_owned()) });
        let summary = Summary::new(runs);
        let both = &summary.medians["server cpu µs per packet"];
        assert_eq!((both.a, both.b, both.b_to_a), (2000.0, 4000.0, Some(2.0)));
        assert_eq!(summary.medians["server rss KiB per viewer"].a, 1024.0);
        assert!(!summary.medians.contains_key("only here"));
        assert_eq!((summary.successes(Side::A), summary.successes(Side::B)), (3, 1));
        assert!(summary.table().lines().nth(2).unwrap().starts_with("server cpu"));
    }
}
