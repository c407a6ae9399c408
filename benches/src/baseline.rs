//! The committed counts: `benches/counts.toml`.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;

use crate::environment::{Environment, today};

/// A case may become this much dearer before the check fails. What moves without a change of ours - where code is
/// inlined, the seeds of hash maps - stays far below.
const TOLERANCE_PERCENT: f64 = 5.0;
const HEADER: &str = "\
# Instructions of one iteration under callgrind. Written by `make counts ARGS=update`; a tolerance may be changed by hand.
";

/// Every case's committed count.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Baseline {
    cases: BTreeMap<String, Entry>,
}

/// One case's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) instructions: u64,
    pub(crate) tolerance_percent: f64,
    date: String,
    rustc: String,
    machine: String,
}

impl Entry {
    pub(crate) fn environment(&self) -> Environment {
        Environment { rustc: self.rustc.clone(), machine: self.machine.clone() }
    }
}

impl Baseline {
    pub(crate) fn load() -> Result<Self> {
        Figment::from(Toml::file_exact(path())).extract().context("benches/counts.toml")
    }

    pub(crate) fn entry(&self, case: &str) -> Option<&Entry> {
        self.cases.get(case)
    }

    pub(crate) fn set(&mut self, case: &str, instructions: u64, here: &Environment) -> Result<()> {
        let tolerance_percent = self.entry(case).map_or(TOLERANCE_PERCENT, |entry| entry.tolerance_percent);
        let Environment { rustc, machine } = here.clone();
        let entry = Entry { instructions, tolerance_percent, date: today()?, rustc, machine };
        self.cases.insert(case.to_owned(), entry);
        Ok(())
    }

    /// Cases that are no more are left out.
    pub(crate) fn save(&mut self) -> Result<()> {
        self.cases.retain(|name, _| crate::cases::find(name).is_ok());
        std::fs::write(path(), self.to_toml()?).context("benches/counts.toml")
    }

    fn to_toml(&self) -> Result<String> {
        let mut text = HEADER.to_owned();
        for (name, entry) in &self.cases {
            let Entry { instructions, tolerance_percent, date, rustc, machine } = entry;
            writeln!(text, "\n[{name}]\ninstructions = {instructions}")?;
            writeln!(text, "tolerance_percent = {tolerance_percent:?}\ndate = \"{date}\"")?;
            writeln!(text, "rustc = \"{rustc}\"\nmachine = \"{machine}\"")?;
        }
        Ok(text)
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_a_tolerance_is_kept() {
        let here = Environment { rustc: "1.95.0".to_owned(), machine: "a machine".to_owned() };
        let mut baseline = Baseline::default();
        baseline.set("chunk_128", 7, &here).unwrap();
        baseline.cases.get_mut("chunk_128").unwrap().tolerance_percent = 2.5;
        baseline.set("chunk_128", 8, &here).unwrap();
        let text = baseline.to_toml().unwrap();
        let again: Baseline = Figment::from(Toml::string(&text)).extract().unwrap();
        let entry = again.entry("chunk_128").unwrap();
        assert_eq!((entry.instructions, entry.tolerance_percent), (8, 2.5));
        assert_eq!(entry.environment(), here);
    }

    #[test]
    fn every_case_has_a_committed_count() {
        let baseline = Baseline::load().unwrap();
        let names = crate::cases::select(&[]).unwrap().into_iter().map(|case| case.name);
        assert!(baseline.cases.keys().map(String::as_str).eq(std::collections::BTreeSet::from_iter(names)));
    }
}
