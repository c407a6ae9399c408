//! `lectern ca`: the authority of a cluster, and certificates of its nodes.
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::Context;
use coordinator::authority::Authority;

use crate::config::{Config, LINK_AUTHORITY, LINK_CERT, LINK_FOLDER, LINK_KEY};

/// The command line of `ca`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a certificate for a node, and the authority unless there is one.
    Node {
        /// The node's name: lower-case letters, digits and hyphens.
        name: String,
        /// Where the node's certificate, its key and the authority's certificate are put [default: the data folder's link].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// The folder with the authority [default: the data folder, data].
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// The configuration file [default: lectern.toml, if there is one].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Does what is asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Command::Node { name, out, data_dir, config } = &arguments.command;
    let settings: Config = process::config::load(config.as_deref())?;
    let folder = data_dir.as_ref().unwrap_or(&settings.coordinator.data_dir).join(LINK_FOLDER);
    let known_as = control::certificate_name(name)
        .with_context(|| format!("{name:?}: a node's name has lower-case letters, digits and hyphens"))?;
    let out = out.as_ref().unwrap_or(&folder);
    let authority = Authority::open(&folder)?;
    DirBuilder::new().recursive(true).mode(0o700).create(out)?;
    authority.issue_for_node(known_as, &out.join(LINK_CERT), &out.join(LINK_KEY))?;
    process::file::replace(&out.join(LINK_AUTHORITY), authority.pem().as_bytes(), 0o644)?;
    show(&format!("the certificate of the node {name} is in {}", out.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn show(text: &str) {
    println!("{text}");
}
