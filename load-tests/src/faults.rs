//! `lectern-load faults`: what viewers notice when parts of a cluster end, with processes of this machine.
mod cluster;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::cluster::{Cluster, wait};
use crate::compare::group::Group;
use crate::report::{self, table::Table};

/// From the fault to the next, or to the end: until everybody is back, and a while more.
const AFTER: Duration = Duration::from_secs(20);
/// How long a coordinator is away.
const AWAY: Duration = Duration::from_secs(10);
/// What a phone takes to notice that its node is gone and to publish to another.
const PHONE: Duration = Duration::from_millis(1500);

/// The command line of `faults`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which faults.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::ALL)]
    faults: Vec<Fault>,
    /// Lectern's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/lectern")]
    lectern: PathBuf,
    /// How many watch.
    #[arg(long, value_name = "N", default_value_t = 300)]
    viewers: u32,
    /// Write every figure into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What happens to a cluster of four nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Fault {
    /// A node with viewers drains.
    Drain,
    /// A node with viewers is killed.
    KillNode,
    /// The node that the teacher publishes to is killed; he publishes to another 1.5 s later.
    KillIngest,
    /// The teacher publishes to another node.
    PhoneMoves,
    /// The coordinator is killed and comes back 10 s later.
    KillCoordinator,
    /// Three nodes are drained and started again, one after the other.
    RollingRestart,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Drain,
        Self::KillNode,
        Self::KillIngest,
        Self::PhoneMoves,
        Self::KillCoordinator,
        Self::RollingRestart,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Drain => "a node drains",
            Self::KillNode => "a viewers' node is killed",
            Self::KillIngest => "the publisher's node is killed",
            Self::PhoneMoves => "the publisher moves",
            Self::KillCoordinator => "the coordinator is away for 10 s",
            Self::RollingRestart => "three nodes are restarted",
        }
    }
}

/// The node that the teacher publishes to; small classes are sent elsewhere as often as here.
const ORIGIN: &str = "a";
const OTHERS: [&str; 3] = ["b", "c", "d"];

/// Measures and prints the table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "fault",
        "viewers",
        "there",
        "moved",
        "rejoined",
        "not back",
        "gap ms p50",
        "p95",
        "max",
        "drained in s",
    ]);
    let mut all = Vec::new();
    for fault in &arguments.faults {
        report::progress(fault.name());
        let (figures, there, drained) = measure(*fault, arguments)?;
        let viewers = &figures["viewers"];
        let whole =
            |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let gap = |of: &str| whole(&viewers["person_longest_gap_ms"][of]);
        table.push([
            fault.name().to_owned(),
            arguments.viewers.to_string(),
            there.to_string(),
            whole(&viewers["moved"]),
            whole(&viewers["rejoined"]),
            whole(&viewers["not_back"]),
            gap("p50"),
            gap("p95"),
            gap("max"),
            drained.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64())),
        ]);
        all.push(json!({ "fault": fault.name(), "there": there, "figures": figures }));
        if let Some(file) = &arguments.json {
            std::fs::write(file, serde_json::to_vec_pretty(&all)?)?;
        }
    }
    report::result(&table.render());
    Ok(())
}

/// One fault under viewers: their figures, how many were at the node that it was about, and how long draining took.
fn measure(fault: Fault, arguments: &Arguments) -> anyhow::Result<(Value, u64, Option<Duration>)> {
    let mut cluster = Cluster::start(&arguments.lectern, &[&[ORIGIN][..], &OTHERS].concat())?;
    cluster.publish(ORIGIN)?;
    let (mut watching, folder) = watch(&cluster, arguments.viewers)?;
    let viewers = cluster.viewers()?;
    let of = |name: &str| viewers.get(name).copied().unwrap_or(0);
    let busiest = OTHERS.into_iter().max_by_key(|name| of(name)).context("there are no other nodes")?;
    let (mut there, mut drained) = (of(busiest), None);
    match fault {
        Fault::Drain => drained = Some(cluster.drain(busiest)?),
        Fault::KillNode => cluster.kill_node(busiest)?,
        Fault::KillIngest => {
            there = of(ORIGIN);
            cluster.kill_node(ORIGIN)?;
            std::thread::sleep(PHONE);
            cluster.publish(busiest)?;
        }
        Fault::PhoneMoves => {
            there = viewers.values().sum();
            cluster.publish(busiest)?;
        }
        Fault::KillCoordinator => {
            there = viewers.values().sum();
            cluster.kill_coordinator();
            std::thread::sleep(AWAY);
            cluster.start_coordinator()?;
        }
        Fault::RollingRestart => {
            there = OTHERS.iter().map(|name| of(name)).sum();
            let mut longest = Duration::ZERO;
            for name in OTHERS {
                longest = longest.max(cluster.drain(name)?);
                cluster.start_node(name)?;
            }
            drained = Some(longest);
        }
    }
    std::thread::sleep(AFTER);
    watching.signal("INT");
    let file = folder.path().join("figures");
    let figures = wait("the viewers' figures", || {
        let text = std::fs::read(&file).ok().filter(|_| matches!(watching.status(), Ok(Some(_))));
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    })?;
    Ok((figures, there, drained))
}

/// People who go where they are sent; all of them see the lesson when this returns.
fn watch(cluster: &Cluster, viewers: u32) -> anyhow::Result<(Group, TempDir)> {
    let folder = TempDir::new()?;
    let ready = folder.path().join("ready");
    let command = format!(
        "exec {} watch --follow --retries 20 --viewers {viewers} --rate 100 --duration 1h --token-url '{}' \
         --ready-file {} --json {} 2>/dev/null >/dev/null",
        std::env::current_exe()?.display(),
        cluster.token_url(),
        ready.display(),
        folder.path().join("figures").display(),
    );
    let mut group = Group::start(&command, &[], None)?;
    let state: Value = wait("everybody being in", || {
        ensure!(group.status()?.is_none(), "the viewers have ended");
        Ok(std::fs::read(&ready).ok().and_then(|text| serde_json::from_slice(&text).ok()))
    })?;
    ensure!(state["failed"] == 0, "some did not get in: {state}");
    Ok((group, folder))
}
