//! `lectern-load bench`: what one node of Lectern carries, beside what this machine could carry at the most.
//!
//! The server runs on its own core, publisher and viewers on the others, over loopback. Each scene starts a server of its
//! own, so none inherits another's memory.
mod scene;
mod scenes;
pub(crate) mod scrape;
mod tokens;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Serialize;

use self::scene::Place;
use crate::limit::socket;
use crate::report::table::Table;
use crate::report::{self, figure};

/// The command line of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/lectern")]
    server: PathBuf,
    /// Scenes to play, by name [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds that viewers come and go.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    churn_seconds: u64,
    /// Draw viewers against CPU, and the delay, into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Write the rows there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    figure: &'static str,
    measured: String,
    target: &'static str,
    is_met: bool,
}

impl Row {
    fn new(figure: &'static str, measured: impl Into<String>, target: &'static str, is_met: bool) -> Self {
        Self { figure, measured: measured.into(), target, is_met }
    }
}

/// Plays all scenes and prints the table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let server = arguments
        .server
        .canonicalize()
        .with_context(|| format!("there is no server at {}; build it first", arguments.server.display()))?;
    let cores = socket::cores().context("which cores are allowed")?;
    ensure!(cores.len() >= 2, "the bench needs two cores: for the server, and for those who load it");
    let place = Place::new(server, &cores, arguments.churn_seconds, arguments.plots.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    let is_wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    for (name, cores_min, play) in scenes::ALL.into_iter().filter(|(name, ..)| is_wanted(name)) {
        if cores.len() < cores_min {
            left_out.push(format!("{name} (needs {cores_min} cores)"));
            continue;
        }
        report::progress(&format!("— {name}"));
        let outcome = runtime.block_on(play(&place)).with_context(|| format!("scene {name}"))?;
        for row in &outcome {
            report::progress(&format!("  {}: {}", row.figure, row.measured));
        }
        rows.extend(outcome);
    }
    let mut table = Table::new(&["figure", "measured", "target", "met"]);
    for row in &rows {
        table.push([row.figure, &row.measured, row.target, if row.is_met { "yes" } else { "no" }]);
    }
    report::result(&table.render());
    if !left_out.is_empty() {
        report::result(&format!("left out with {} cores: {}", cores.len(), left_out.join(", ")));
    }
    arguments.json.as_ref().map_or(Ok(()), |file| report::write_json(file, &rows))
}

/// A number with its unit.
fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", figure(value))
}
