//! What came of a fault, beside what should.
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::audience::Figures;
use super::fault::{Course, Fault, Target, Terms};
use crate::report::figure;
use crate::report::table::Table;
use crate::stats::to_f64;

/// A gap that is shorter than this is taken for the machine's, times the patience that one has with it.
const PAUSE: Duration = Duration::from_millis(700);
/// Of people and joins, this part may do what none should, times the same.
const SHARE: f64 = 0.03;
/// Of the newcomers so many may see no picture while they are there.
const BLIND_MAX: f64 = 0.9;
/// What nobody notices.
const UNNOTICED: Duration = Duration::from_millis(300);
/// How long a node may take to drain.
const DRAINED_MAX: Duration = Duration::from_secs(10);
/// How long a node may take that hears of a newer publisher.
const YIELDED_MAX: Duration = Duration::from_secs(5);

const HEADINGS: [&str; 17] = [
    "fault",
    "viewers",
    "there",
    "moved",
    "rejoined",
    "lost",
    "gap ms p50",
    "p95",
    "max",
    "freezes",
    "elsewhere max",
    "joins",
    "failed",
    "blind",
    "drained s",
    "Chromium ms",
    "missed",
];

/// One row.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    fault: &'static str,
    viewers: u64,
    /// At the nodes that it was about.
    there: u64,
    moved: u64,
    rejoined: u64,
    /// Who had no pictures at the end.
    lost: u64,
    /// The longest time without a picture, of those who were there and of the others.
    gap_ms: Spread,
    elsewhere_gap_ms: Spread,
    /// Of one person at most, among those who were there; and beyond one for each time that this person moved.
    freezes_max: u64,
    freezes_beyond: u64,
    /// Who came meanwhile; those of them who did not get in, and those who did and saw nothing while they were there.
    joins: u64,
    joins_failed: u64,
    joins_blind: u64,
    drained_s: Option<f64>,
    yielded_s: Option<f64>,
    browser: Option<Browser>,
    /// Targets that were missed, and those that were missed by more than a busy machine explains.
    missed: Vec<String>,
    failed: Vec<String>,
    figures: Value,
    joins_figures: Value,
    logs: BTreeMap<String, String>,
}

/// What Chromium showed.
#[derive(Debug, Serialize)]
struct Browser {
    /// Whether it was at a node that the fault was about.
    is_there: bool,
    longest_gap_ms: f64,
    freezes: u64,
    new_sessions: u64,
    is_back: bool,
}

impl Browser {
    fn new(figures: &Value, is_there: bool) -> Self {
        let count = |key: &str| figures[key].as_u64().unwrap_or_default();
        Self {
            is_there,
            longest_gap_ms: figures["longestMs"].as_f64().unwrap_or_default(),
            freezes: count("freezes"),
            new_sessions: count("newSessions"),
            is_back: figures["isBack"] == true && count("pictures") > 0,
        }
    }

    fn cell(&self) -> String {
        let place = if self.is_there { "" } else { ", elsewhere" };
        format!("{:.0} ({}{place})", self.longest_gap_ms, self.freezes)
    }
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Spread {
    p50: f64,
    p95: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        // The smallest value that so many of a hundred do not exceed.
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or_default()
        };
        Self { p50: at(50), p95: at(95), max: at(100) }
    }
}

impl Outcome {
    pub(super) fn new(
        (fault, terms): (Fault, Terms),
        course: &Course,
        (figures, browser_at): (Figures, Option<String>),
        logs: BTreeMap<String, String>,
    ) -> Self {
        let Figures { people: figures, newcomers: joins_figures, browser } = figures;
        let people: Vec<&Value> = figures["people"].as_array().into_iter().flatten().collect();
        let is_of = |node: &str| course.there.is_empty() || course.there.iter().any(|there| there == node);
        let is_there = |person: &&Value| is_of(person["node"].as_str().unwrap_or_default());
        let (there, elsewhere): (Vec<&Value>, Vec<&Value>) = people.iter().copied().partition(is_there);
        let gaps = |of: &[&Value]| {
            Spread::of(of.iter().filter_map(|person| person["longest_gap_ms"].as_f64()).collect())
        };
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        let sum = |key: &str| -> u64 { people.iter().map(|person| count(&person[key])).sum() };
        let joins = count(&joins_figures["admitted"]);
        let connected = count(&joins_figures["viewers"]["connected"]);
        let freezes_beyond =
            |person: &&Value| count(&person["freezes"]).saturating_sub(count(&person["moved"]));
        let mut outcome = Self {
            fault: fault.name(),
            viewers: number(people.len()),
            there: number(there.len()),
            moved: sum("moved"),
            rejoined: sum("rejoined"),
            lost: number(people.iter().filter(|person| person["is_back"] != true).count()),
            gap_ms: gaps(&there),
            elsewhere_gap_ms: gaps(&elsewhere),
            freezes_max: there.iter().map(|person| count(&person["freezes"])).max().unwrap_or_default(),
            freezes_beyond: there.iter().map(freezes_beyond).max().unwrap_or_default(),
            joins,
            joins_failed: joins.saturating_sub(connected),
            joins_blind: connected
                .saturating_sub(count(&joins_figures["viewers"]["post_to_first_unit_ms"]["count"])),
            drained_s: course.drained.map(|time| time.as_secs_f64()),
            yielded_s: course.yielded.map(|time| time.as_secs_f64()),
            browser: browser_at.map(|node| Browser::new(&browser, is_of(&node))),
            missed: Vec::new(),
            failed: Vec::new(),
            figures,
            joins_figures,
            logs,
        };
        outcome.judge(fault, terms);
        outcome
    }

    /// Compares what was seen with what should be, and with what a busy machine explains.
    fn judge(&mut self, fault: Fault, terms: Terms) {
        let Target { p95, max, stays } = fault.target();
        let wide = |time: Duration| ms(time.max(PAUSE) * terms.patience);
        let part = |count: u64| to_f64(count) * SHARE * f64::from(terms.patience);
        let new_sessions = if stays { self.moved + self.rejoined } else { 0 };
        let is_seamless = matches!(fault, Fault::Drain | Fault::RollingRestart | Fault::Scale);
        let freezes = if is_seamless { self.freezes_beyond } else { 0 };
        let browser = self.browser.as_ref();
        let browser_gap =
            browser.filter(|browser| browser.is_there).map_or(0.0, |browser| browser.longest_gap_ms);
        let browser_sessions = browser.filter(|_| stays).map_or(0, |browser| browser.new_sessions);
        let browser_lost = u64::from(browser.is_some_and(|browser| !browser.is_back));
        // The others have nothing to do with it.
        let elsewhere = self.elsewhere_gap_ms.max;
        let (drained, yielded) = (self.drained_s.unwrap_or(0.0), self.yielded_s.unwrap_or(0.0));
        for (what, value, target, margin) in [
            ("gap p95 ms", self.gap_ms.p95, ms(p95), wide(p95)),
            ("gap max ms", self.gap_ms.max, ms(max), wide(max)),
            ("elsewhere max ms", elsewhere, ms(UNNOTICED), wide(UNNOTICED)),
            ("freezes of one, beyond one a move", to_f64(freezes), 0.0, f64::INFINITY),
            ("lost", to_f64(self.lost), 0.0, 0.0),
            ("Chromium max ms", browser_gap, ms(max), wide(max)),
            ("Chromium's new sessions", to_f64(browser_sessions), 0.0, 0.0),
            ("Chromium lost", to_f64(browser_lost), 0.0, 0.0),
            ("new sessions", to_f64(new_sessions), 0.0, part(self.viewers)),
            ("joins failed", to_f64(self.joins_failed), 0.0, part(self.joins)),
            // They do not stay for long; that nearly all of them see nothing is no matter of time.
            ("joins without a picture", to_f64(self.joins_blind), 0.0, to_f64(self.joins) * BLIND_MAX),
            ("drained s", drained, DRAINED_MAX.as_secs_f64(), wide(DRAINED_MAX) / 1000.0),
            ("yielded s", yielded, YIELDED_MAX.as_secs_f64(), wide(YIELDED_MAX) / 1000.0),
        ] {
            let text = || format!("{what} {} > {}", figure(value), figure(target));
            if value > target {
                self.missed.push(text());
            }
            if value > margin {
                self.failed.push(text());
            }
        }
        let is_browser_there = self.browser.as_ref().is_some_and(|browser| browser.is_there);
        if (self.there == 0 && !is_browser_there) || self.joins == 0 {
            self.failed.push(format!("{} concerned, {} joins: nothing is shown", self.there, self.joins));
        }
    }

    /// What went beyond what a busy machine explains.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.failed.iter().map(|what| format!("{}: {what}", self.fault))
    }

    pub(super) fn table() -> Table {
        Table::new(&HEADINGS)
    }

    pub(super) fn row(&self) -> Vec<String> {
        let whole = |value: f64| format!("{value:.0}");
        let elsewhere =
            if self.there < self.viewers { whole(self.elsewhere_gap_ms.max) } else { "-".to_owned() };
        let missed = match (&*self.missed, self.yielded_s) {
            ([], None) => "-".to_owned(),
            ([], Some(time)) => format!("- (yielded after {time:.1} s)"),
            (missed, _) => missed.join(", "),
        };
        let counts =
            [self.viewers, self.there, self.moved, self.rejoined, self.lost].map(|count| count.to_string());
        let gaps = [self.gap_ms.p50, self.gap_ms.p95, self.gap_ms.max].map(whole);
        let rest = [
            self.freezes_max.to_string(),
            elsewhere,
            self.joins.to_string(),
            self.joins_failed.to_string(),
            self.joins_blind.to_string(),
            self.drained_s.map_or_else(|| "-".to_owned(), |time| format!("{time:.1}")),
            self.browser.as_ref().map_or_else(|| "-".to_owned(), Browser::cell),
            missed,
        ];
        [self.fault.to_owned()].into_iter().chain(counts).chain(gaps).chain(rest).collect()
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(fault: Fault, gaps: [f64; 3], connected: u64) -> Outcome {
        let person = |(node, gap): (&str, f64)| json!({ "node": node, "longest_gap_ms": gap, "freezes": 1, "moved": 0, "rejoined": 1, "is_back": true });
        let people: Vec<Value> = ["b", "b", "c"].into_iter().zip(gaps).map(person).collect();
        let newcomers = json!({ "admitted": 10, "viewers": { "connected": connected, "post_to_first_unit_ms": { "count": connected } } });
        let figures = Figures { people: json!({ "people": people }), newcomers, browser: Value::Null };
        let course = Course { there: vec!["b".to_owned()], ..Course::default() };
        let terms =
            Terms { away: Duration::from_secs(20), database_away: Duration::from_secs(60), patience: 3 };
        Outcome::new((fault, terms), &course, (figures, None), BTreeMap::new())
    }

    #[test]
    fn those_who_are_concerned_are_counted_apart() {
        let outcome = outcome(Fault::KillNode, [2_100.0, 2_300.0, 40.0], 10);
        assert_eq!((outcome.viewers, outcome.there, outcome.rejoined), (3, 2, 3));
        assert_eq!(outcome.gap_ms, Spread { p50: 2_100.0, p95: 2_300.0, max: 2_300.0 });
        assert_eq!(outcome.elsewhere_gap_ms.max, 40.0);
        assert!(outcome.missed.is_empty() && outcome.failed.is_empty(), "{outcome:?}");
        assert_eq!(outcome.row().len(), HEADINGS.len());
    }

    #[test]
    fn a_target_is_missed_before_anything_fails() {
        let late = outcome(Fault::KillNode, [2_100.0, 11_000.0, 400.0], 10);
        let missed =
            ["gap p95 ms 11,000 > 5,000", "gap max ms 11,000 > 10,000", "elsewhere max ms 400 > 300"];
        assert_eq!(late.missed, missed);
        assert!(late.failed.is_empty(), "{late:?}");
        let wrong = outcome(Fault::DeafNode, [40.0, 2_200.0, 40.0], 8);
        assert_eq!(wrong.failed.len(), 4, "gaps, sessions and joins: {wrong:?}");
    }
}
