//! `lectern-load compare`: two servers, the same work, the same cores, in turn.
mod figures;
pub(crate) mod group;
mod ready;
mod summary;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::group::Group;
use self::ready::{Before, Ready};
use self::summary::{Cost, Run, Side, Summary};
use crate::publish::quantity::parse_duration;
use crate::report;

/// How often a server's memory is looked at, and whether the work is done.
const SAMPLE: Duration = Duration::from_millis(100);
/// How long a server is given where nothing shows that it is ready.
const SETTLE: Duration = Duration::from_secs(1);
/// Rounds at most: each is a line in memory.
const ROUNDS_MAX: u32 = 1000;
/// Cores in a list at most.
const CORES_MAX: usize = 1024;

/// The command line of `compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Starts server A and stays in the foreground. Run by a shell, in a process group that is ended as a whole.
    #[arg(long, value_name = "COMMAND")]
    a: String,
    /// Starts server B.
    #[arg(long, value_name = "COMMAND")]
    b: String,
    /// Measures, and writes what it finds to {json}. Also known: {server} (a or b), {round}, and {pid}, the server's
    /// process if its command begins with exec.
    #[arg(long, value_name = "COMMAND")]
    work: String,
    /// How often each has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The servers' cores, such as 0 or 0,2-3 [default: all].
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, value_parser = parse_cores)]
    cores: Cores,
    /// The work's cores [default: all].
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, value_parser = parse_cores)]
    work_cores: Cores,
    /// What shows that a server is ready: tcp:IP:PORT accepts connections, file:PATH was written [default: a second].
    #[arg(long, value_name = "WHAT")]
    ready: Option<Ready>,
    /// How long it may take to be ready.
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    ready_timeout: Duration,
    /// How long the work may take.
    #[arg(long, value_parser = parse_duration, default_value = "30m")]
    work_timeout: Duration,
    /// The figure in {json} that counts delivered packets.
    #[arg(long, value_name = "NAME", default_value = "packets")]
    packets: String,
    /// The figure in {json} that counts viewers.
    #[arg(long, value_name = "NAME", default_value = "connected")]
    viewers: String,
    /// Keep what the commands print in this folder.
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
    /// Write the figures of every run and their medians there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Compares, or ends what it started and stops at a signal.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    ensure!((1..=ROUNDS_MAX).contains(&arguments.rounds), "--rounds must be 1 to {ROUNDS_MAX}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // What runs ends when its owner is dropped, and its owners are in here.
        tokio::select! {
            outcome = compare(&arguments) => outcome,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("asked to end"),
        }
    })
}

async fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = TempDir::new().context("no temporary folder")?;
    if let Some(logs) = &arguments.logs {
        std::fs::create_dir_all(logs).with_context(|| format!("{}", logs.display()))?;
    }
    let mut runs = Vec::new();
    for round in 1..=arguments.rounds {
        // Whoever is first has a cooler machine: both are, in turn.
        let sides = if round % 2 == 1 { [Side::A, Side::B] } else { [Side::B, Side::A] };
        for side in sides {
            report::progress(&format!("round {round} of {}: {}", arguments.rounds, side.name()));
            let (figures, error) = match take_turn(arguments, round, side, folder.path()).await {
                Ok(figures) => (figures, None),
                Err(error) => {
                    report::progress(&format!("round {round}, {}: {error:#}", side.name()));
                    (figures::Figures::new(), Some(format!("{error:#}")))
                }
            };
            runs.push(Run { round, side, figures, error });
        }
    }
    let summary = Summary::new(runs);
    report::result(&summary.table());
    if let Some(file) = &arguments.json {
        report::write_json(file, &summary)?;
    }
    for side in [Side::A, Side::B] {
        ensure!(summary.successes(side) > 0, "no run of {} went through", side.name());
    }
    Ok(())
}

/// Starts one server, has the work done and ends it.
async fn take_turn(
    arguments: &Arguments,
    round: u32,
    side: Side,
    folder: &Path,
) -> anyhow::Result<figures::Figures> {
    let before = match &arguments.ready {
        Some(ready) => Some(ready.look_before().await?),
        None => None,
    };
    let command = match side {
        Side::A => &arguments.a,
        Side::B => &arguments.b,
    };
    let log = |what: &str| {
        let file =
            arguments.logs.as_ref().map(|logs| logs.join(format!("{round}-{}-{what}.log", side.name())));
        file.map(File::create).transpose().context("cannot write a log")
    };
    let mut server = Group::start(command, &arguments.cores.0, log("server")?)?;
    wait_until_ready(arguments, &mut server, before).await?;
    let json = folder.join(format!("{round}-{}.json", side.name()));
    let work = arguments.work.replace("{json}", &json.display().to_string());
    let work = work.replace("{server}", side.name()).replace("{round}", &round.to_string());
    let work = work.replace("{pid}", &server.id().to_string());
    let mut work = Group::start(&work, &arguments.work_cores.0, log("work")?)?;
    let cost = observe(&mut server, &mut work, arguments.work_timeout).await?;
    let mut figures = figures::read(&json)?;
    cost.add_to(&mut figures, &arguments.packets, &arguments.viewers);
    Ok(figures)
}

async fn wait_until_ready(
    arguments: &Arguments,
    server: &mut Group,
    before: Option<Before>,
) -> anyhow::Result<()> {
    let (Some(ready), Some(before)) = (&arguments.ready, before) else {
        sleep(SETTLE).await;
        return Ok(());
    };
    let begun = Instant::now();
    loop {
        if let Some(status) = server.status()? {
            bail!("the server ended before it was ready: {status}");
        }
        if ready.is_reached(&before).await? {
            return Ok(());
        }
        ensure!(begun.elapsed() < arguments.ready_timeout, "the server is not ready in time");
        sleep(SAMPLE).await;
    }
}

/// Looks at the server until the work is done.
async fn observe(server: &mut Group, work: &mut Group, limit: Duration) -> anyhow::Result<Cost> {
    let (begun, before) = (Instant::now(), server.usage()?);
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rss_peak = before.rss_bytes;
    loop {
        ticks.tick().await;
        let done = work.status()?;
        let usage = server.usage()?;
        rss_peak = rss_peak.max(usage.rss_bytes);
        if let Some(status) = server.status()? {
            bail!("the server ended during the work: {status}");
        }
        match done {
            Some(status) if status.success() => {
                return Ok(Cost {
                    seconds: begun.elapsed().as_secs_f64(),
                    cpu_seconds: usage.cpu.saturating_sub(before.cpu).as_secs_f64(),
                    rss_before: as_f64(before.rss_bytes),
                    rss_peak: as_f64(rss_peak),
                });
            }
            Some(status) => bail!("the work failed: {status}"),
            None => ensure!(begun.elapsed() < limit, "the work is not done in time"),
        }
    }
}

/// Cores by number; none means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cores(Vec<usize>);

/// `0`, `0,2-3`, or nothing.
fn parse_cores(text: &str) -> Result<Cores, String> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is no core"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= CORES_MAX {
            return Err(format!("{part:?} are no cores"));
        }
        cores.extend(first..=last);
    }
    cores.truncate(CORES_MAX);
    Ok(Cores(cores))
}

#[expect(clippy::cast_precision_loss, reason = "bytes, far below 2^52")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_understood() {
        assert_eq!(parse_cores(""), Ok(Cores(vec![])));
        assert_eq!(parse_cores("0,2-4"), Ok(Cores(vec![0, 2, 3, 4])));
        for bad in ["x", "3-1", "0-9999999", "-1"] {
            assert!(parse_cores(bad).is_err(), "{bad}");
        }
    }
}
