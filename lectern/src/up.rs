//! `lectern up`: every role in one process.
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use control::{Client, TokenVerifier};
use hub::Hub;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::heartbeat::{Reporter, now_ms};
use crate::welcome::{self, Addresses};

/// From Ctrl-C to the end, whatever still hangs.
const DRAIN_MAX: Duration = Duration::from_millis(1800);

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
    /// The WHEP port [default: 8889].
    #[arg(long, value_name = "PORT")]
    whep_port: Option<u16>,
    /// The media port, UDP and TCP [default: 8189].
    #[arg(long, value_name = "PORT")]
    media_port: Option<u16>,
    /// The operators' port, always on loopback [default: 9090].
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Write the addresses as JSON into this file once everything listens.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Arguments {
    fn apply(&self, config: &mut Config) {
        if self.open {
            config.coordinator.mode = coordinator::Mode::Open;
        }
        if let Some(data_dir) = &self.data_dir {
            config.coordinator.data_dir.clone_from(data_dir);
        }
        let Config { node, ingest, whep, coordinator } = config;
        let ports = [
            (&mut coordinator.listen, self.http_port),
            (&mut ingest.listen, self.rtmp_port),
            (&mut whep.listen, self.whep_port),
            (&mut whep.media_listen, self.media_port),
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
        whep.default_class.clone_from(&coordinator.default_class);
    }
}

/// Runs until Ctrl-C.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config: Config = process::config::load(arguments.config.as_deref())?;
    arguments.apply(&mut config);
    let drain = process::drain::on_signal()?;
    let process = Process::bind(config).await?;
    announce(&process.addresses(), arguments.ready_file.as_deref());
    process.run(drain).await
}

/// Every port is held by now: whoever connects at once is served as soon as the roles run.
fn announce(addresses: &Addresses, ready_file: Option<&Path>) {
    if let Some(file) = ready_file
        && let Err(error) = write_ready_file(file, addresses)
    {
        tracing::error!(%error, file = %file.display(), "the ready file cannot be written");
    }
    show(&welcome::text(addresses));
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn show(text: &str) {
    println!("{text}");
}

/// Written beside and renamed: whoever waits for the file finds it whole.
fn write_ready_file(file: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(addresses)?)?;
    std::fs::rename(&beside, file)?;
    Ok(())
}

/// All roles, with their ports held and nothing running.
struct Process {
    coordinator: coordinator::Bound,
    ingest: ingest::Bound,
    whep: whep_node::Bound,
    admin: process::admin::Bound,
    registry: Registry,
    config: Config,
}

impl Process {
    async fn bind(config: Config) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let coordinator = coordinator::bind(config.coordinator.clone(), &registry).await?;
        let rtmp = config.ingest.listen;
        let ingest = ingest::bind(config.ingest.clone(), &registry)
            .await
            .with_context(|| format!("cannot listen for RTMP on {rtmp}"))?;
        let (whep, media) = (config.whep.listen, config.whep.media_listen);
        let whep = whep_node::bind(config.whep.clone(), &registry)
            .await
            .with_context(|| format!("cannot listen for WHEP on {whep} or for media on {media}"))?;
        let admin = config.node.admin_listen;
        let admin = process::admin::bind(admin)
            .await
            .with_context(|| format!("cannot listen for operators on {admin}"))?;
        Ok(Self { coordinator, ingest, whep, admin, registry, config })
    }

    fn addresses(&self) -> Addresses {
        let class = self.coordinator.default_class();
        let (http, rtmp) = (self.coordinator.local_addr(), self.ingest.local_addr());
        let is_guarded = self.config.coordinator.mode == coordinator::Mode::Guarded;
        Addresses {
            http,
            rtmp,
            whep: self.whep.local_addr(),
            media: self.whep.media_addr(),
            admin: self.admin.local_addr(),
            class: class.slug.clone(),
            key: class.stream_key.clone(),
            pin: is_guarded.then(|| class.pin.clone()),
            rtmp_url: format!("rtmp://{}/live", welcome::host(rtmp)),
            watch_url: format!("http://{}/watch/{}", welcome::host(http), class.slug),
        }
    }

    /// The coordinator goes last: it writes down how the sessions ended.
    async fn run(self, drain: CancellationToken) -> anyhow::Result<()> {
        let base = format!("http://{}", reachable(self.coordinator.local_addr()));
        let control = Client::new(&base, self.coordinator.node_secret())?;
        let verifier = TokenVerifier::new(&base)?;
        let hub = Hub::new(hub::Limits::default());
        let node = self.config.node;
        let reporter = Reporter {
            hub: hub.clone(),
            audience: self.whep.audience(),
            control: control.clone(),
            node: node.name.clone(),
            public_url: node.public_url,
            whep_port: self.whep.local_addr().port(),
            started_at_ms: now_ms(),
        };
        let last = CancellationToken::new();
        let coordinator = tokio::spawn(self.coordinator.run(last.clone()));
        let admin = tokio::spawn(self.admin.run(self.registry, drain.clone(), last.clone()));
        let ingest =
            tokio::spawn(self.ingest.run(hub.clone(), control.clone(), node.name.clone(), drain.clone()));
        let mut whep = tokio::spawn(self.whep.run(hub, control, verifier, node.name, drain.clone()));
        let reporter = tokio::spawn(reporter.run(drain.clone()));
        let outcome = tokio::select! {
            () = drain.cancelled() => None,
            outcome = &mut whep => Some(outcome),
        };
        if let Some(outcome) = outcome {
            outcome.context("the WHEP server ended by a panic")??;
            anyhow::bail!("the WHEP server ended");
        }
        let end = async {
            let _ = (ingest.await, whep.await, reporter.await);
            last.cancel();
            let _ = (coordinator.await, admin.await);
        };
        if tokio::time::timeout(DRAIN_MAX, end).await.is_err() {
            tracing::warn!("not everything has ended in time");
        }
        Ok(())
    }
}

/// A listening address as one that can be connected to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
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
