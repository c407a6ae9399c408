//! Lectern: a teacher's RTMP stream in, a class of browsers out.
#![forbid(unsafe_code)]

mod audience;
mod ca;
mod certificate;
mod class;
mod config;
mod demo;
mod fault;
mod fleet;
mod leave;
mod node;
mod roles;
mod simulate;
mod tls;
mod up;
mod welcome;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use process::telemetry;
use tokio::runtime::Builder;

/// What is logged unless LECTERN_LOG or LOG_LEVEL say otherwise.
const LOG: &str = "info,sqlx=warn,tower_http=warn";
/// Libraries warn of whatever strangers and broken encoders send, some of them before they know who it is from: that would be a
/// way to fill the log and to hold up media. A filter that names them is still heeded.
const STRANGERS: &str = "is=error,dimpl=error,symphonia=off";

/// Live lessons from a phone to a class of browsers, in under 300 ms.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything in this process: web page, RTMP and WebRTC.
    Up(Box<up::UpArguments>),
    /// Runs a coordinator alone: web page, API and the directory of nodes and streams.
    Coordinator(Box<up::Arguments>),
    /// Runs a node alone: RTMP and WebRTC, for a coordinator elsewhere.
    Node(Box<node::NodeArguments>),
    /// Simulates how viewers are placed on a large cluster.
    Simulate(simulate::Arguments),
    /// Makes certificates by which the nodes of a cluster know each other.
    Ca(ca::Arguments),
    /// Makes a certificate for this machine, with an authority of its own.
    Tls(tls::Arguments),
    /// Publishes a short bundled lesson, for whoever has no phone at hand.
    Demo(demo::Arguments),
    /// Manages classes, stream keys and PINs, whether or not a server runs.
    Class(class::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = ["LECTERN_LOG", "LOG_LEVEL"].iter().find_map(|name| std::env::var(name).ok());
    let format = if std::env::var("LECTERN_LOG_FORMAT").is_ok_and(|format| format == "json") {
        telemetry::Format::Json
    } else {
        telemetry::Format::Text
    };
    telemetry::init(format, &format!("{STRANGERS},{}", filter.as_deref().unwrap_or(LOG)));
    telemetry::log_panics();
    let runtime = match runtime().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Up(arguments) => up::run(*arguments).await,
            Command::Coordinator(arguments) => up::run_coordinator(*arguments).await,
            Command::Node(arguments) => node::run(*arguments).await,
            Command::Simulate(arguments) => {
                simulate::run(&arguments);
                Ok(())
            }
            Command::Ca(arguments) => ca::run(&arguments),
            Command::Tls(arguments) => tls::run(&arguments),
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Class(arguments) => class::run(arguments).await,
        }
    });
    // Threads that still transcode or resolve names are not waited for.
    runtime.shutdown_background();
    outcome.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// On one core a second thread would only hand its work over and wait for the core.
fn runtime() -> Builder {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a command belongs on the terminal")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("lectern: {error:#}");
    ExitCode::FAILURE
}
