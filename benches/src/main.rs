//! What the hot paths cost in instructions, compared with committed counts.
//!
//! An instruction count does not depend on how busy or how fast the machine is, so a few per cent are a finding. A case
//! runs under callgrind N times and 2N times; the difference is free of start-up and set-up.
#![forbid(unsafe_code)]

mod baseline;
mod callgrind;
mod cases;
mod environment;
mod judgement;
mod lesson;

use std::hint::black_box;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::baseline::Baseline;
use crate::callgrind::Counted;
use crate::cases::Case;
use crate::environment::Environment;
use crate::judgement::Row;

const USAGE: &str = "usage: counts check [CASE...] | counts update [CASE...] | counts run CASE TIMES";

fn main() -> ExitCode {
    match command() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("counts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["check", names @ ..] => check(&cases::select(names)?),
        ["update", names @ ..] => update(&cases::select(names)?),
        ["run", name, times] => run(cases::find(name)?, times.parse().context(USAGE)?),
        _ => bail!(USAGE),
    }
}

/// The program that callgrind watches.
fn run(case: &Case, times: u32) -> Result<ExitCode> {
    let mut once = (case.prepare)();
    for _ in 0..times {
        black_box(once());
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails when a case has become dearer than its tolerance allows, and for nothing that the machine is to blame for.
fn check(cases: &[&Case]) -> Result<ExitCode> {
    let baseline = Baseline::load()?;
    let Some(here) = Environment::here()? else {
        not_counted("valgrind is not installed");
        return Ok(ExitCode::SUCCESS);
    };
    let mut rows = Vec::new();
    for case in cases {
        match callgrind::count(case)? {
            Counted::Instructions(count) => {
                rows.push(Row::new(case.name, count, baseline.entry(case.name), &here));
            }
            Counted::Not(why) => not_counted(&why),
        }
    }
    let (is_good, advice) = judgement::advice(&rows, &here);
    print(&(judgement::table(&rows) + &advice));
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A machine that cannot count has found nothing wrong, and must not look as if it had found everything right.
fn not_counted(why: &str) {
    eprintln!("counts: NOT COUNTED, this machine cannot: {why}");
}

/// Accepts what the cases cost now.
fn update(cases: &[&Case]) -> Result<ExitCode> {
    let mut baseline = Baseline::load()?;
    let here = Environment::here()?.context("valgrind is not installed")?;
    let mut rows = Vec::new();
    for case in cases {
        match callgrind::count(case)? {
            Counted::Instructions(count) => {
                rows.push(Row::new(case.name, count, baseline.entry(case.name), &here));
                baseline.set(case.name, count, &here)?;
            }
            Counted::Not(why) => bail!("{why}"),
        }
    }
    baseline.save()?;
    print(&judgement::table(&rows));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn print(text: &str) {
    print!("{text}");
}
