//! One of those who watch is a real Chromium with our page.
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{Lab, wait_for};
use crate::chromium;
use crate::compare::group::Group;

/// How long it may take to play, and to end: Chromium's start and its last pictures, on a machine that does other things.
const TIMEOUT: Duration = Duration::from_secs(150);

/// It watches until this is dropped.
#[derive(Debug)]
pub(super) struct Browser {
    group: Group,
    node: String,
    folder: TempDir,
}

impl Browser {
    /// It plays when this returns.
    pub(super) fn open(frontend: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let file = |name: &str| folder.path().join(name);
        let task = json!({
            "url": Lab::page(), "ready": file("ready"), "begun": file("begun"), "over": file("over"), "output": file("output"),
        });
        std::fs::write(file("task"), task.to_string())?;
        let command = chromium::command(frontend, "lab", &file("task"), Lab::at_viewers);
        let log = File::create(file("log"))?;
        let mut browser =
            Self { group: Group::start(&command, &[], Some(log))?, node: String::new(), folder };
        let ready = browser.read("ready")?;
        browser.node = ready["node"].as_str().context("Chromium is nowhere")?.to_owned();
        Ok(browser)
    }

    /// The address of the WHEP server that it watches at.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// From here on it counts.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        std::fs::write(self.file("begun"), "").context("Chromium's folder")
    }

    /// Ends it once it plays, or does not within a minute.
    pub(super) fn end(mut self) -> anyhow::Result<Value> {
        std::fs::write(self.file("over"), "")?;
        self.read("output")
    }

    fn read(&mut self, name: &str) -> anyhow::Result<Value> {
        let (file, log) = (self.file(name), self.file("log"));
        wait_for("Chromium", TIMEOUT, || {
            let has_ended = self.group.status()?.is_some();
            let text = std::fs::read(&file).ok();
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            ensure!(text.is_some() || !has_ended, "Chromium has ended:\n{}", log());
            Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
