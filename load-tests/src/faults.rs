//! `lectern-load faults`: what viewers notice when parts of a cluster end or do not hear each other.
//!
//! The lab is a network of this machine's kernel: every coordinator, every node, PostgreSQL, the teacher's phone and those who
//! watch are processes on hosts of their own, which a bridge connects.
mod audience;
mod browser;
mod cluster;
mod database;
mod fault;
mod network;
mod outcome;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::bail;

use self::audience::Audience;
use self::cluster::{Cluster, Lab};
use self::fault::{Fault, ORIGIN, Terms};
use self::outcome::Outcome;
use crate::{chromium, interrupt, namespace, report};

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
    /// How long a coordinator is away, or somebody is not heard.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    away: u64,
    /// How long the database is away.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    database_away: u64,
    /// How long is watched after it all, at least; then whoever has no pictures has a minute to get some.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    after: u64,
    /// How many times over a target may be missed before that is an error: 1 on a machine at rest.
    #[arg(long, value_name = "N", default_value_t = 3)]
    patience: u32,
    /// A Chromium watches as well, which `make setup` installs.
    #[arg(long)]
    chromium: bool,
    /// Write every figure, and what the cluster has logged, into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures and prints the table. That a target was missed by more than the machine explains is an error.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Err(reason) = namespace::enter(&["ip", "nft", "setpriv"])? {
        report::result(&format!("skipped: {reason}"));
        return Ok(());
    }
    interrupt::watch()?;
    let frontend = arguments.chromium.then(chromium::frontend).transpose()?;
    let mut lab = Lab::open(&arguments.lectern, arguments.viewers)?;
    let (mut table, mut outcomes) = (Outcome::table(), Vec::new());
    for fault in &arguments.faults {
        let outcome = measure(*fault, &mut lab, arguments, frontend.as_deref())?;
        table.push(outcome.row());
        outcomes.push(outcome);
        // Whoever stops it early has what was measured so far.
        if let Some(file) = &arguments.json {
            report::write_json(file, &outcomes)?;
        }
    }
    report::result(&table.render());
    let failures: Vec<String> = outcomes.iter().flat_map(Outcome::failures).collect();
    if !failures.is_empty() {
        bail!("more is wrong than a busy machine explains (--patience):\n{}", failures.join("\n"));
    }
    Ok(())
}

/// One fault under viewers.
fn measure(
    fault: Fault,
    lab: &mut Lab,
    arguments: &Arguments,
    frontend: Option<&Path>,
) -> anyhow::Result<Outcome> {
    let seconds = Duration::from_secs;
    let terms = Terms {
        away: seconds(arguments.away),
        database_away: seconds(arguments.database_away),
        patience: arguments.patience,
    };
    let mut cluster = Cluster::start(lab, fault.nodes())?;
    cluster.publish(ORIGIN)?;
    let mut audience = Audience::gather(cluster.lab, arguments.viewers, frontend)?;
    let browser_at = audience.browser_at().map(str::to_owned);
    report::progress(fault.name());
    audience.begin(cluster.lab)?;
    let course = fault.happen(&mut cluster, browser_at.as_deref(), terms)?;
    interrupt::sleep_until(SystemTime::now() + seconds(arguments.after))?;
    let figures = audience.end()?;
    Ok(Outcome::new((fault, terms), &course, (figures, browser_at), cluster.logs()))
}
