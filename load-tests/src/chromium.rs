//! Chromium, which the harness of the page's tests drives.
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The harness's folder, beside the workspace's other crates.
pub(crate) fn frontend() -> anyhow::Result<PathBuf> {
    let folder = Path::new("frontend").canonicalize().context("run this in the project's folder")?;
    ensure!(folder.join("node_modules/.bin/vitest").exists(), "Chromium needs `make setup` first");
    Ok(folder)
}

/// What a shell runs to have it do what a file says, with what else is in front of the command; the file is named in a variable.
pub(crate) fn command(frontend: &Path, mode: &str, task: &Path, within: impl Fn(&str) -> String) -> String {
    let player = within(&format!("node_modules/.bin/vitest run --config e2e/vitest.config.ts --mode {mode}"));
    let variable = format!("{}_TASK", mode.to_uppercase());
    format!("cd {} && exec env {variable}={} {player}", frontend.display(), task.display())
}
