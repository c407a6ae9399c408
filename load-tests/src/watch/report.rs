//! What a run tells: a line each second, a table at the end, and everything as JSON.
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::join::Entrance;
use super::orders::{GROUPS, Gauge, Outcome};
use super::person::Round;
use super::totals::Totals;
use crate::stats::{Histogram, rounded, to_f64};

/// How often the progress line is written.
const INTERVAL: Duration = Duration::from_secs(1);
/// Names of the groups, in their order.
const NAMES: [&str; GROUPS] = ["viewers", "joiners", "misbehaving"];

/// The line on the terminal.
#[derive(Debug)]
pub(super) struct Progress {
    entrance: Arc<Entrance>,
    gauges: Vec<Arc<Gauge>>,
}

impl Progress {
    pub(super) fn new(entrance: &Arc<Entrance>, gauges: impl Iterator<Item = Arc<Gauge>>) -> Self {
        Self { entrance: Arc::clone(entrance), gauges: gauges.collect() }
    }

    /// Writes for ever.
    pub(super) async fn show(self) {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.tick().await;
        let (mut joins, mut packets, mut bytes, mut then) = (0, 0, 0, began);
        loop {
            ticks.tick().await;
            let sum = |of: fn(&Gauge) -> &AtomicU64| -> u64 {
                self.gauges.iter().map(|gauge| of(gauge).load(Relaxed)).sum()
            };
            let now = Instant::now();
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            let rate = |now: u64, before: u64| to_f64(now.saturating_sub(before)) / seconds;
            let ever = sum(|gauge| &gauge.ever_connected) + self.entrance.crate_connected.load(Relaxed);
            let (packets_now, bytes_now) = (sum(|gauge| &gauge.packets), sum(|gauge| &gauge.bytes));
            let mut line = format!("{:4.0} s", now.saturating_duration_since(began).as_secs_f64());
            let written = write!(
                line,
                "  connected {}  joins/s {:.0}  failed {}  packets/s {:.0}  Mbit/s {:.1}  lost {}",
                sum(|gauge| &gauge.connected) + self.entrance.crate_connected.load(Relaxed),
                rate(ever, joins),
                self.entrance.failed.load(Relaxed) + sum(|gauge| &gauge.failed),
                rate(packets_now, packets),
                rate(bytes_now, bytes) * 8.0 / 1e6,
                sum(|gauge| &gauge.lost),
            );
            debug_assert!(written.is_ok(), "a String takes everything");
            let _ = writeln!(std::io::stderr(), "{line}");
            (joins, packets, bytes, then) = (ever, packets_now, bytes_now, now);
        }
    }
}

/// A run that is over.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) command: &'static str,
    pub(super) time: Duration,
    pub(super) joining: Duration,
    pub(super) admitted: u64,
    pub(super) turned_away: u64,
    pub(super) has_left: bool,
    pub(super) cpu_us: u64,
    pub(super) groups: [Totals; GROUPS],
    /// Of those who go where they are sent: what each saw, and whether that still went on at the end.
    pub(super) people: Vec<(Round, bool)>,
    pub(super) pass: Histogram,
    pub(super) link_lost: u64,
    pub(super) link_overflowed: u64,
}

impl Report {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.add_groups(&outcome.groups);
        self.pass.merge(&outcome.pass);
        self.link_lost += outcome.link_lost;
        self.link_overflowed += outcome.link_overflowed;
    }

    pub(super) fn add_groups(&mut self, groups: &[Totals; GROUPS]) {
        self.groups.iter_mut().zip(groups).for_each(|(into, from)| into.merge(from));
    }

    pub(super) fn connected(&self) -> u64 {
        self.groups.iter().map(|totals| totals.connected).sum()
    }

    /// Writes the table, and the file if there is one.
    pub(super) fn write(&self, json: Option<&Path>) -> Result<()> {
        let table = self.table();
        std::io::stdout().write_all(table.as_bytes()).context("writing the table")?;
        let Some(path) = json else { return Ok(()) };
        let text = serde_json::to_string_pretty(&self.to_json()).context("making JSON")?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn to_json(&self) -> Value {
        let connected = self.connected();
        let bytes: u64 = self.groups.iter().map(|totals| totals.bytes).sum();
        let packets: u64 = self.groups.iter().map(|totals| totals.packets).sum();
        let seconds = self.time.as_secs_f64().max(0.001);
        let mut all = json!({
            "command": self.command,
            "seconds": rounded(seconds),
            "joining_seconds": rounded(self.joining.as_secs_f64()),
            "admitted": self.admitted,
            "turned_away": self.turned_away,
            "joins_per_second": rounded(to_f64(connected) / self.joining.as_secs_f64().max(0.001)),
            "packets_per_second": rounded(to_f64(packets) / seconds),
            "mbit_per_second": rounded(to_f64(bytes) * 8.0 / 1e6 / seconds),
            "own_cpu_seconds": rounded(to_f64(self.cpu_us) / 1e6),
            "own_pass_ms": self.pass.to_json(1000.0),
            "link_lost": self.link_lost,
            "link_overflowed": self.link_overflowed,
            "every_session_deleted": self.has_left,
            "people": self.people.iter().map(|(round, is_back)| round.to_json(*is_back)).collect::<Vec<_>>(),
        });
        if let Some(map) = all.as_object_mut() {
            for (name, totals) in self.used_groups() {
                map.insert(name.to_owned(), totals.to_json());
            }
        }
        all
    }

    fn used_groups(&self) -> impl Iterator<Item = (&'static str, &Totals)> {
        let is_used = |totals: &Totals| totals.joined > 0 || totals.failures.total() > 0;
        NAMES
            .into_iter()
            .zip(&self.groups)
            .filter(move |(name, totals)| *name == "viewers" || is_used(totals))
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let all = self.to_json();
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        for key in ["seconds", "joining_seconds", "joins_per_second", "packets_per_second", "mbit_per_second"]
        {
            line(format_args!("{:<28}{:>12}", spaced(key), all[key].to_string()));
        }
        line(format_args!("{:<28}{:>12}", "own cpu seconds", all["own_cpu_seconds"].to_string()));
        if self.turned_away > 0 {
            line(format_args!("{:<28}{:>12}", "turned away, no place free", self.turned_away));
        }
        if self.link_lost > 0 || self.link_overflowed > 0 {
            line(format_args!("{:<28}{:>12}", "lost by the test link", self.link_lost));
            line(format_args!("{:<28}{:>12}", "overflowed the test link", self.link_overflowed));
        }
        for (name, totals) in self.used_groups() {
            line(format_args!("\n{name}"));
            let json = totals.to_json();
            for (key, value) in json.as_object().into_iter().flatten().filter(|(_, value)| value.is_u64()) {
                if value.as_u64() != Some(0) || ALWAYS.contains(&key.as_str()) {
                    line(format_args!("  {:<26}{:>12}", spaced(key), value.to_string()));
                }
            }
            for kind in ["video", "audio"] {
                let counts = json[kind].as_object().into_iter().flatten();
                let words: Vec<String> =
                    counts.map(|(key, value)| format!("{} {value}", spaced(key))).collect();
                line(format_args!("  {kind} packets: {}", words.join(", ")));
            }
            for (title, tally) in
                [("failed", &totals.failures), ("ended early", &totals.ended), ("SRTP", &totals.profiles)]
            {
                for (reason, count) in tally.iter() {
                    line(format_args!("  {title}: {reason}: {count}"));
                }
            }
            line(format_args!(
                "  {:<28}{:>9}{:>11}{:>11}{:>11}{:>11}",
                "", "count", "p50", "p95", "p99", "max"
            ));
            for (key, histogram, unit) in totals.histograms() {
                if histogram.count() > 0 {
                    line(format_args!("  {:<28}{}", spaced(key), row(histogram, unit)));
                }
            }
        }
        line(format_args!("\n  {:<28}{}", "own pass ms", row(&self.pass, 1000.0)));
        out
    }
}

/// Figures that are worth a line when they are 0.
const ALWAYS: [&str; 4] = ["connected", "units_complete", "units_damaged", "freezes"];

fn spaced(key: &str) -> String {
    key.replace('_', " ")
}

fn row(histogram: &Histogram, unit: f64) -> String {
    let mut row = format!("{:>9}", histogram.count());
    for value in
        [50, 95, 99].map(|percent| histogram.percentile(percent)).into_iter().chain([histogram.max()])
    {
        let _ = write!(row, "{:>11.2}", to_f64(value) / unit);
    }
    row
}
