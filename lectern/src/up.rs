//! `lectern up`, `lectern coordinator` and `lectern node`: the roles of a machine in one process.
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use process::drain;
use tokio_util::sync::CancellationToken;

use crate::certificate;
use crate::config::Config;
use crate::fleet::{Fleet, Shared};
use crate::roles::{Ending, Process, Roles};
use crate::welcome::{Secrets, Welcome};

/// Nodes of one machine: each has a thread for every core, so that more show nothing new.
const NODES_MAX: i64 = 16;

/// The command line of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArguments {
    /// So many nodes on this machine, for a look at a cluster: this process and others that it starts, which end with it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=NODES_MAX))]
    nodes: u8,
    #[command(flatten)]
    common: Arguments,
}

/// What every role can be told. What is left out comes from `lectern.toml` and the environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Whoever comes from a private address may watch without a PIN. Refused on public addresses.
    #[arg(long)]
    open: bool,
    /// The same where only the local network reaches this machine; on a public address the class's PIN is asked for.
    #[arg(long, conflicts_with = "open")]
    open_if_private: bool,
    /// The configuration file [default: lectern.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the database and the keys are [default: data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address that every port listens on [default: all of this machine].
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// The web page's port [default: 8000].
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// The RTMP port [default: 1935].
    #[arg(long, value_name = "PORT")]
    rtmp_port: Option<u16>,
    /// The RTMPS port, which there is with a certificate [default: 1936].
    #[arg(long, value_name = "PORT")]
    rtmps_port: Option<u16>,
    /// The WHEP port [default: 8889].
    #[arg(long, value_name = "PORT")]
    whep_port: Option<u16>,
    /// The media port, UDP and TCP [default: 8189].
    #[arg(long, value_name = "PORT")]
    media_port: Option<u16>,
    /// The port at which other nodes pull streams, UDP [default: 8190].
    #[arg(long, value_name = "PORT")]
    link_port: Option<u16>,
    /// The operators' port, on loopback unless node.admin_listen says otherwise [default: 9090].
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Speak TLS with the certificate that `lectern tls init` has put into the data folder.
    #[arg(long)]
    tls: bool,
    /// Let other machines join as nodes: `lectern node join`.
    #[arg(long)]
    cluster: bool,
    /// Write addresses, key and PIN as JSON into this file, for its owner only, once everything listens.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Print key and PIN even where the output is no terminal, and so may be kept in a journal.
    #[arg(long)]
    show_secrets: bool,
    /// End when the standard input does, at once: whoever starts this process and is gone takes it along.
    #[arg(long)]
    end_with_input: bool,
}

impl Arguments {
    fn apply(&self, config: &mut Config) {
        if self.open {
            config.coordinator.mode = coordinator::Mode::Open;
        }
        if let Some(data_dir) = &self.data_dir {
            config.coordinator.data_dir.clone_from(data_dir);
        }
        config.link.enabled |= self.cluster;
        if self.tls {
            let folder = &config.coordinator.data_dir;
            config.tls.cert = Some(folder.join(certificate::CERT_FILE));
            config.tls.key = Some(folder.join(certificate::KEY_FILE));
        }
        let Config { node, ingest, whep, coordinator, link, .. } = config;
        let ports = [
            (&mut coordinator.listen, self.http_port),
            (&mut ingest.listen, self.rtmp_port),
            (&mut ingest.tls_listen, self.rtmps_port),
            (&mut whep.listen, self.whep_port),
            (&mut whep.media_listen, self.media_port),
            (&mut link.listen, self.link_port),
        ];
        for (listen, port) in ports {
            *listen = SocketAddr::new(self.bind.unwrap_or(listen.ip()), port.unwrap_or(listen.port()));
        }
        if self.open_if_private {
            let is_public = coordinator::public_address(coordinator.listen.ip()).is_some();
            coordinator.mode = if is_public { coordinator::Mode::Guarded } else { coordinator::Mode::Open };
        }
        if let Some(port) = self.admin_port {
            node.admin_listen.set_port(port);
        }
    }
}

/// Runs every role until Ctrl-C.
pub(crate) async fn run(arguments: UpArguments) -> anyhow::Result<()> {
    let others = usize::from(arguments.nodes).saturating_sub(1);
    run_roles(&arguments.common, Roles { coordinator: true, node: true }, others).await
}

/// Runs a coordinator alone until Ctrl-C.
pub(crate) async fn run_coordinator(arguments: Arguments) -> anyhow::Result<()> {
    run_roles(&arguments, Roles { coordinator: true, node: false }, 0).await
}

/// The settings: the file, the environment, and the command line.
pub(crate) fn load(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config: Config = process::config::load(arguments.config.as_deref())?;
    arguments.apply(&mut config);
    Ok(config)
}

/// Runs some roles until Ctrl-C, and so many nodes besides, as processes of their own.
pub(crate) async fn run_roles(arguments: &Arguments, roles: Roles, others: usize) -> anyhow::Result<()> {
    let mut config = load(arguments)?;
    let signal = drain::on_signal()?;
    let owner = if arguments.end_with_input { drain::at_end_of_input()? } else { CancellationToken::new() };
    if others > 0 {
        config.link.enabled = true;
        // Nodes of one machine know each other by loopback, unless they listen elsewhere.
        let listen = config.link.listen.ip();
        config.link.announce = config.link.announce.or((!listen.is_unspecified()).then_some(listen));
    }
    let folder = config.coordinator.data_dir.clone();
    let shared = Shared { file: arguments.config.clone(), bind: arguments.bind };
    let fleet = (others > 0).then(|| (config.clone(), shared));
    let process = Process::bind(roles, config).await?;
    let secrets = if arguments.show_secrets || std::io::stdout().is_terminal() {
        Secrets::Show
    } else {
        Secrets::KeptIn(folder)
    };
    let ready_file = arguments.ready_file.clone();
    let welcome = Welcome { addresses: process.addresses(), secrets, ready_file };
    let fleet = match fleet {
        // It says where they are when they are there.
        Some((config, shared)) => Some(Fleet::plan(others, (&config, &shared), process.door()?, welcome)?),
        // Every port is held by now: whoever connects at once is served as soon as the roles run.
        None => {
            welcome.give(Vec::new())?;
            None
        }
    };
    process.run(Ending { signal, owner }, fleet).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_world_is_asked_for_the_pin_and_the_local_network_is_not() {
        let mode = |line: &str| {
            let mut config = Config::default();
            Line::parse_from(line.split(' ')).arguments.apply(&mut config);
            config.coordinator.mode
        };
        assert_eq!(mode("up --open-if-private --bind 8.8.8.8"), coordinator::Mode::Guarded);
        assert_eq!(mode("up --open-if-private --bind 192.168.1.7"), coordinator::Mode::Open);
        assert_eq!(mode("up --bind 192.168.1.7"), coordinator::Mode::Guarded);
        assert_eq!(mode("up --open --bind 8.8.8.8"), coordinator::Mode::Open, "bind refuses it");
    }
}
