//! `lectern simulate`: how viewers would be placed on a large cluster, beside simpler rules.
use std::time::{Duration, Instant};

use coordinator::simulate::{Algorithm, Figures, Scale, Scenario};

/// The command line of `simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where all chance comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Classes; their viewers are drawn from a school day.
    #[arg(long, default_value_t = 20_000)]
    streams: usize,
    /// Viewers of one class besides, of 2.5 Mbit/s.
    #[arg(long, value_name = "VIEWERS", default_value_t = 0)]
    largest: usize,
    /// Load of all nodes in relation to their capacity, in percent.
    #[arg(long, default_value_t = 53)]
    percent: u64,
    /// Leave out the simpler rules, of which some look at every node for each viewer.
    #[arg(long)]
    ours: bool,
}

/// Prints the table.
#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
pub(crate) fn run(arguments: &Arguments) {
    let Arguments { seed, nodes, streams, largest, percent, ours } = *arguments;
    let scenario = Scenario::new(seed, Scale { nodes, streams, largest, percent });
    println!("seed {seed}: {scenario}\n{}", Figures::HEADING);
    let start = Instant::now();
    let simpler = [Algorithm::HrwStream, Algorithm::TwoChoices, Algorithm::LeastLoaded, Algorithm::HrwViewer];
    let simpler = simpler.into_iter().filter(|_| !ours);
    for algorithm in [Algorithm::Assignment(1), Algorithm::Assignment(4)].into_iter().chain(simpler) {
        println!("{}", scenario.run(algorithm, &|| processor_time().unwrap_or_else(|| start.elapsed())));
    }
}

/// The time that this thread spent on a processor (Linux): other processes do not count.
fn processor_time() -> Option<Duration> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedstat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
