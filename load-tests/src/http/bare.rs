//! What the framework of Lectern's servers costs alone: axum with one handler, which answers with JSON and does nothing else.
use std::path::PathBuf;

use anyhow::{Context, ensure};
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::report;

/// Bytes of an answer with nothing in it.
const LEAST: usize = r#"{"filler":""}"#.len();

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of an answer.
    #[arg(long, value_name = "BYTES")]
    bytes: usize,
    /// Write the address there, once it listens.
    #[arg(long, value_name = "FILE")]
    ready_file: PathBuf,
}

#[derive(Serialize)]
struct Answer {
    filler: String,
}

/// Serves until it is ended.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let filler =
        arguments.bytes.checked_sub(LEAST).with_context(|| format!("--bytes must be {LEAST} at least"))?;
    ensure!(filler <= 1 << 20, "--bytes must be a mebibyte at most");
    let filler = "x".repeat(filler);
    // The same runtime as the server's.
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let http = listener.local_addr()?.to_string();
        let answer = async move || Json(Answer { filler: filler.clone() });
        let router = Router::new().route("/api/token", post(answer));
        report::write_json(&arguments.ready_file, &json!({ "http": http }))?;
        Ok(axum::serve(listener, router).await?)
    })
}
