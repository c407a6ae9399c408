//! `sim`: many seeds, or one.
#![expect(clippy::print_stdout, reason = "this is what it is run for")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::bail;
use clap::Parser;

/// Plays whole clusters in virtual time
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one, and what it came to
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { seeds, from, seed } = Arguments::parse();
    if let Some(seed) = seed {
        let outcome = sim::run(seed, None);
        println!("seed {seed}: {} joins, {}, {:?}", outcome.joins, outcome.figures, outcome.at);
        return outcome.broken.map_or(Ok(()), |broken| bail!("{broken}"));
    }
    let (begun, next, failed) = (Instant::now(), AtomicU64::new(from), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let outcome = sim::run(seed, None);
                    if let Some(broken) = outcome.broken {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("seed {seed} after {:?}: {broken}", outcome.at);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{seeds} seeds from {from}, {failed} with a broken invariant, {:?}", begun.elapsed());
    if failed > 0 {
        bail!("replay one with --seed");
    }
    Ok(())
}
