//! Load for RTMP and WHEP servers, and what it costs them.
mod compare;
mod limit;
mod process;
mod publish;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Publishes to servers of RTMP and WHEP, and measures what that costs them.
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
    /// Measures what sealing and sending a packet costs on this machine at the least.
    Limit(limit::Arguments),
    /// Gives the same work to two servers in turn and compares what it costs them.
    Compare(Box<compare::Arguments>),
    /// Draws what was measured.
    Report(report::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Publish(arguments) => publish::run(*arguments),
        Command::Limit(arguments) => limit::run(&arguments),
        Command::Compare(arguments) => compare::run(*arguments),
        Command::Report(arguments) => report::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("lectern-load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
