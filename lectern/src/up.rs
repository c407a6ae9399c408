//! `lectern up`: every role in one process.
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use control::{Client, TokenVerifier};
use hub::Hub;
use process::address::shown;
use process::clock::now_ms;
use process::connections::{Connections, Limits};
use process::descriptors::{self, Shares};
use process::serve::Front;
use process::supervise::{DrainLimits, Stage, Supervisor};
use process::tls::Tls;
use process::{accept, admin};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::certificate;
use crate::config::{Config, Node};
use crate::fault::inject;
use crate::heartbeat::Reporter;
use crate::welcome::{self, Addresses, Asked, Secrets};

/// From Ctrl-C to the end, whatever still hangs: Docker and systemd wait ten times as long, a person does not.
const DRAIN_MAX: DrainLimits =
    DrainLimits { serving: Duration::from_millis(1300), record: Duration::from_millis(500) };

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
    /// The operators' port, always on loopback [default: 9090].
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Speak TLS with the certificate that `lectern tls init` has put into the data folder.
    #[arg(long)]
    tls: bool,
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
        if self.tls {
            let folder = &config.coordinator.data_dir;
            config.tls.cert = Some(folder.join(certificate::CERT_FILE));
            config.tls.key = Some(folder.join(certificate::KEY_FILE));
        }
        let Config { node, ingest, whep, coordinator, .. } = config;
        let ports = [
            (&mut coordinator.listen, self.http_port),
            (&mut ingest.listen, self.rtmp_port),
            (&mut ingest.tls_listen, self.rtmps_port),
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
    }
}

/// Runs until Ctrl-C.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config: Config = process::config::load(arguments.config.as_deref())?;
    arguments.apply(&mut config);
    let drain = process::drain::on_signal()?;
    let process = Process::bind(config).await?;
    let addresses = process.addresses();
    if let Some(file) = &arguments.ready_file {
        // It holds the key, so only its owner reads it.
        process::file::replace(file, &serde_json::to_vec(&addresses)?, 0o600)
            .with_context(|| format!("cannot write the ready file {}", file.display()))?;
    }
    let secrets = if arguments.show_secrets || std::io::stdout().is_terminal() {
        Secrets::Show
    } else {
        Secrets::KeptIn(&process.config.coordinator.data_dir)
    };
    // Every port is held by now: whoever connects at once is served as soon as the roles run.
    show(&welcome::text(&addresses, secrets));
    process.run(drain).await
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn show(text: &str) {
    println!("{text}");
}

/// All roles, with their ports held and nothing running.
struct Process {
    coordinator: coordinator::Bound,
    ingest: ingest::Bound,
    whep: whep_node::Bound,
    admin: admin::Bound,
    /// The coordinator's port for the nodes of this machine.
    internal: TcpListener,
    registry: Registry,
    front: Front,
    shares: Shares,
    config: Config,
}

impl Process {
    async fn bind(config: Config) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let shares = Shares::of(descriptors::raise_limit());
        let front = Front {
            connections: Connections::new(Limits {
                connections_max: config.http.connections_max.min(shares.http),
                per_network_max: config.http.connections_per_address_max,
            }),
            metrics: accept::Metrics::new(&registry)?,
            tls: Tls::load(&config.tls, &registry)?,
        };
        let coordinator = coordinator::bind(config.coordinator.clone(), &registry).await?;
        let (internal, _) = accept::listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let rtmp = config.ingest.listen;
        let ingest = ingest::bind(config.ingest.clone(), front.tls.clone(), &registry)
            .with_context(|| format!("cannot listen for RTMP on {rtmp} or for RTMPS"))?;
        let (whep, media) = (config.whep.listen, config.whep.media_listen);
        let share = config.whep.media_connections_max.min(shares.media);
        let sized = whep_node::Config { media_connections_max: share, ..config.whep.clone() };
        let whep = whep_node::bind(sized, &registry)
            .with_context(|| format!("cannot listen for WHEP on {whep} or for media on {media}"))?;
        let admin = config.node.admin_listen;
        let admin = admin::bind(admin).with_context(|| format!("cannot listen for operators on {admin}"))?;
        Ok(Self { coordinator, ingest, whep, admin, internal, registry, front, shares, config })
    }

    fn addresses(&self) -> Addresses {
        let class = self.coordinator.default_class();
        let (http, rtmps) = (self.coordinator.local_addr(), self.ingest.tls_addr());
        let coordinator::Config { mode, allow_public_open, .. } = self.config.coordinator;
        let is_open = mode == coordinator::Mode::Open;
        let (scheme, publish) = match (self.ingest.local_addr(), rtmps) {
            (_, Some(rtmps)) => ("https", format!("rtmps://{}/live", shown(rtmps))),
            (rtmp, None) => ("http", format!("rtmp://{}/live", shown(rtmp.unwrap_or(http)))),
        };
        Addresses {
            http,
            rtmp: self.ingest.local_addr().or(rtmps).unwrap_or(http),
            rtmps,
            whep: self.whep.local_addr(),
            media: self.whep.media_addr(),
            admin: self.admin.local_addr(),
            class: class.slug.clone(),
            key: class.stream_key.clone(),
            pin: (!is_open || !allow_public_open).then(|| class.pin.clone()),
            asked: if is_open { Asked::FromOutside } else { Asked::All },
            rtmp_url: publish,
            watch_url: format!("{scheme}://{}/watch/{}", shown(http), class.slug),
        }
    }

    async fn run(self, asked: CancellationToken) -> anyhow::Result<()> {
        let Self { coordinator, ingest, whep, admin, internal, registry, front, shares, config } = self;
        let base = format!("http://{}", internal.local_addr()?);
        let control = Client::new(&base, coordinator.node_secret())?;
        let verifier = TokenVerifier::new(&base)?;
        let hub = Hub::new(hub::Limits::default());
        let Node { name: node, public_url, .. } = config.node;
        let reporter = Reporter {
            hub: hub.clone(),
            audience: whep.audience(),
            control: control.clone(),
            node: node.clone(),
            public_url,
            whep_port: whep.local_addr().port(),
            started_at_ms: now_ms(),
        };
        let ingest_context = ingest::Context {
            hub: hub.clone(),
            control: control.clone(),
            node: node.clone(),
            accept: front.metrics.clone(),
            connections_max: shares.rtmp,
        };
        let (swept, sweeper) = (hub.clone(), control.clone());
        let default_class = config.coordinator.default_class;
        let whep_context = whep_node::Context {
            hub,
            source: None,
            control,
            verifier,
            node,
            default_class,
            front: front.clone(),
        };

        let mut roles = Supervisor::new(DRAIN_MAX);
        let admin_context = admin::Context {
            registry,
            metrics: front.metrics.clone(),
            leaving: roles.drain(Stage::Serving),
            failed: roles.failed(),
        };
        #[cfg(debug_assertions)]
        if crate::fault::asked_for("shard").is_some() {
            let harm = whep.shard_panic();
            roles.spawn(Stage::Serving, "fault", |drain| crate::fault::harm_at_signal(harm, drain));
        }
        if let Some(tls) = front.tls.clone() {
            roles.spawn(Stage::Serving, "tls", |drain| inject("tls", tls.follow(drain)));
        }
        // The coordinator goes last: it writes down how the sessions ended.
        let leaving = roles.drain(Stage::Serving);
        roles.spawn(Stage::Record, "coordinator", |drain| {
            inject("coordinator", coordinator.run(front, Some(internal), leaving, drain))
        });
        roles.spawn(Stage::Record, "admin", |drain| inject("admin", admin.run(admin_context, drain)));
        roles.spawn(Stage::Serving, "ingest", |drain| inject("ingest", ingest.run(ingest_context, drain)));
        roles.spawn(Stage::Serving, "whep", |drain| inject("whep", whep.run(whep_context, drain)));
        roles.spawn(Stage::Serving, "sweeper", |drain| {
            inject("sweeper", crate::sweep::run(swept, sweeper, drain))
        });
        roles.spawn(Stage::Serving, "reporter", |drain| inject("reporter", reporter.run(drain)));
        Ok(roles.run(asked).await?)
    }
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
