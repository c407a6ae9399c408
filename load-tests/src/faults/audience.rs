//! Those who watch: people who are there before something happens, a Chromium among them, and others who come meanwhile.
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use tempfile::TempDir;

use super::browser::Browser;
use super::cluster::{Lab, wait, wait_for};
use crate::compare::group::Group;

/// What people do: they go where they are sent, and try again when a server has too much to do.
const PEOPLE: &str = "--follow --retries 20 --rate 100 --duration 1h";
/// Of those who come meanwhile: how many a second, and how long they stay.
const NEWCOMERS: &str = "--viewers 200 --rate 2 --stay 4s --duration 1h --retries 20 --decrypt-every 1";
/// How long all may take for their last words: a minute each for pictures and for joins that are under way, and goodbyes.
const ENDING: Duration = Duration::from_secs(150);

/// All of them, until this is dropped.
#[derive(Debug)]
pub(super) struct Audience {
    people: Watching,
    browser: Option<Browser>,
    newcomers: Option<Watching>,
    folder: TempDir,
}

/// What they measured, as `lectern-load` writes it.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) people: Value,
    pub(super) newcomers: Value,
    /// Nothing without one.
    pub(super) browser: Value,
}

/// One process of viewers.
#[derive(Debug)]
struct Watching {
    group: Group,
    figures: PathBuf,
}

impl Audience {
    /// So many people, who all see the lesson when this returns, and a Chromium where its harness is given.
    pub(super) fn gather(lab: &Lab, count: u32, frontend: Option<&Path>) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let (ready, figures) = (folder.path().join("ready"), folder.path().join("people"));
        let arguments = format!(
            "watch {PEOPLE} --viewers {count} --token-url '{}' --ready-file {} --json {}",
            Lab::token_url("s"),
            ready.display(),
            figures.display(),
        );
        let mut people = Watching { group: lab.viewers(&arguments)?, figures };
        let state: Value = wait("everybody being in", || {
            ensure!(people.group.status()?.is_none(), "the viewers have ended");
            Ok(std::fs::read(&ready).ok().and_then(|text| serde_json::from_slice(&text).ok()))
        })?;
        ensure!(state["failed"] == 0, "some did not get in: {state}");
        let browser = frontend.map(Browser::open).transpose()?;
        Ok(Self { people, browser, newcomers: None, folder })
    }

    /// The address of the WHEP server at which Chromium watches.
    pub(super) fn browser_at(&self) -> Option<&str> {
        self.browser.as_ref().map(Browser::node)
    }

    /// From here on it counts, and others come.
    pub(super) fn begin(&mut self, lab: &Lab) -> anyhow::Result<()> {
        let figures = self.folder.path().join("newcomers");
        let arguments =
            format!("churn {NEWCOMERS} --token-url '{}' --json {}", Lab::token_url("n"), figures.display());
        self.newcomers = Some(Watching { group: lab.viewers(&arguments)?, figures });
        self.people.group.signal("USR1");
        self.browser.as_ref().map_or(Ok(()), Browser::begin)
    }

    /// Nobody comes any more, and whoever is without pictures has a minute to get some.
    pub(super) fn end(mut self) -> anyhow::Result<Figures> {
        let newcomers = self.newcomers.take();
        newcomers.iter().chain([&self.people]).for_each(|watching| watching.group.signal("USR2"));
        let browser = self.browser.map(Browser::end).transpose()?.unwrap_or_default();
        let newcomers = newcomers.map(Watching::figures).transpose()?.unwrap_or_default();
        Ok(Figures { people: self.people.figures()?, newcomers, browser })
    }
}

impl Watching {
    fn figures(mut self) -> anyhow::Result<Value> {
        wait_for("the viewers' figures", ENDING, || {
            let has_ended = self.group.status()?.is_some();
            let text = std::fs::read(&self.figures).ok().filter(|_| has_ended);
            ensure!(text.is_some() || !has_ended, "the viewers have no figures");
            Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
        })
    }
}
