//! `lectern up`, `lectern coordinator` and `lectern node`: the roles of a machine in one process.
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;

use crate::certificate;
use crate::config::Config;
use crate::roles::{Process, Roles};
use crate::welcome::{self, Secrets};

/// The command line of `up`. What is left out comes from `lectern.toml` and the environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Anybody who reaches this machine may watch. Refused on public addresses.
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
    /// The operators' port, always on loopback [default: 9090].
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
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    run_roles(&arguments, Roles { coordinator: true, node: true }).await
}

/// Runs a coordinator alone until Ctrl-C.
pub(crate) async fn run_coordinator(arguments: Arguments) -> anyhow::Result<()> {
    run_roles(&arguments, Roles { coordinator: true, node: false }).await
}

/// The settings: the file, the environment, and the command line.
pub(crate) fn load(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config: Config = process::config::load(arguments.config.as_deref())?;
    arguments.apply(&mut config);
    Ok(config)
}

/// Runs some roles until Ctrl-C.
pub(crate) async fn run_roles(arguments: &Arguments, roles: Roles) -> anyhow::Result<()> {
    let config = load(arguments)?;
    let drain = process::drain::on_signal()?;
    let folder = config.coordinator.data_dir.clone();
    let process = Process::bind(roles, config).await?;
    let addresses = process.addresses();
    if let Some(file) = &arguments.ready_file {
        // It holds the key, so only its owner reads it.
        process::file::replace(file, &serde_json::to_vec(&addresses)?, 0o600)
            .with_context(|| format!("cannot write the ready file {}", file.display()))?;
    }
    let secrets = if arguments.show_secrets || std::io::stdout().is_terminal() {
        Secrets::Show
    } else {
        Secrets::KeptIn(&folder)
    };
    // Every port is held by now: whoever connects at once is served as soon as the roles run.
    show(&welcome::text(&addresses, secrets));
    process.run(drain).await
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn show(text: &str) {
    println!("{text}");
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
