//! `lectern-load`: load for any RTMP or WHEP server, and what it costs them.
mod bench;
mod bottleneck;
mod chromium;
mod compare;
mod faults;
mod http;
mod interrupt;
mod limit;
mod namespace;
mod process;
mod publish;
mod report;
mod stats;
mod watch;
mod whep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Publishers and viewers by the thousand for RTMP and WHEP servers, and measures of what comes back and what it costs.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publishes over RTMP, from a file or with made-up pictures of a wanted size.
    Publish(Box<publish::Arguments>),
    /// Viewers join and watch.
    Watch(Box<watch::options::Watch>),
    /// Viewers come and go.
    Churn(Box<watch::options::Churn>),
    /// Many join while others watch.
    Storm(Box<watch::options::Storm>),
    /// Measures what sealing and sending a packet costs on this machine at the least.
    Limit(limit::Arguments),
    /// Gives the same work to two servers in turn and compares what it costs them.
    Compare(Box<compare::Arguments>),
    /// Measures what one node of Lectern carries on this machine.
    Bench(bench::Arguments),
    /// Viewers behind links that are hardly fast enough, in network namespaces, with one or more servers.
    Bottleneck(bottleneck::Arguments),
    /// What viewers notice when parts of a cluster end.
    Faults(faults::Arguments),
    /// Draws what was measured.
    Report(report::Arguments),
    /// Asks an HTTP server the same over and over.
    #[command(hide = true)]
    Requests(http::requests::Arguments),
    /// A server that does nothing but answer.
    #[command(hide = true)]
    Bare(http::bare::Arguments),
    /// Nodes that do nothing but report.
    #[command(hide = true)]
    Nodes(http::nodes::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Publish(arguments) => publish::run(*arguments),
        Command::Watch(options) => watch::watch(&options),
        Command::Churn(options) => watch::churn(&options),
        Command::Storm(options) => watch::storm(&options),
        Command::Limit(arguments) => limit::run(&arguments),
        Command::Compare(arguments) => compare::run(*arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Bottleneck(arguments) => bottleneck::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Requests(arguments) => http::requests::run(&arguments),
        Command::Bare(arguments) => http::bare::run(&arguments),
        Command::Nodes(arguments) => http::nodes::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("lectern-load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
