//! The roles of a process: bound together, run together.
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent::{Gauges, Pulls, Reporter};
use anyhow::{Context, bail};
use control::api::LinkAddress;
use control::{Client, TokenVerifier};
use coordinator::NodeIdentity;
use coordinator::authority::Authority;
use hub::{Hub, Source};
use link::{Identity, Link};
use process::address::shown;
use process::clock::now_ms;
use process::connections::{Connections, Limits};
use process::descriptors::{self, Shares};
use process::drain::Draining;
use process::serve::Front;
use process::supervise::{DrainLimits, Stage, Supervisor};
use process::tls::Tls;
use process::{accept, admin};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::audience::{Viewers, capacity_bps};
use crate::config::{Config, LINK_FOLDER, Node};
use crate::fault::inject;
use crate::fleet::{Door, Fleet};
use crate::leave::{self, Remaining};
use crate::node::Membership;
use crate::welcome::{Addresses, Asked, NodePorts, Page};

/// From Ctrl-C to the end, whatever still hangs: Docker and systemd wait ten times as long, a person does not.
const DRAIN_MAX: DrainLimits =
    DrainLimits { serving: Duration::from_millis(1300), record: Duration::from_millis(500) };

/// What a process is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    /// Web page, API and directory.
    pub(crate) coordinator: bool,
    /// RTMP, WebRTC, and the link to other nodes.
    pub(crate) node: bool,
}

/// Who lets a process end.
#[derive(Debug)]
pub(crate) struct Ending {
    /// A signal: a node of a cluster drains first.
    pub(crate) signal: CancellationToken,
    /// Whoever has started it is gone, and the rest of its cluster with him: it ends at once.
    pub(crate) owner: CancellationToken,
}

/// The roles with their ports held and nothing running.
pub(crate) struct Process {
    coordinator: Option<CoordinatorPorts>,
    node: Option<NodeParts>,
    /// Of a node whose coordinator is elsewhere.
    membership: Option<Membership>,
    admin: admin::Bound,
    registry: Registry,
    front: Front,
    shares: Shares,
    config: Config,
}

struct CoordinatorPorts {
    bound: coordinator::Bound,
    /// For the node of this process.
    internal: TcpListener,
}

struct NodeParts {
    name: String,
    ingest: ingest::Bound,
    whep: whep_node::Bound,
    hub: Hub,
    /// To other nodes, if it has what it needs to prove that it is of their cluster.
    link: Option<Link>,
    gauges: Gauges,
}

impl Process {
    /// Takes every port.
    pub(crate) async fn bind(roles: Roles, config: Config) -> anyhow::Result<Self> {
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
        let coordinator = if roles.coordinator {
            let bound = coordinator::bind(config.coordinator.clone(), &registry).await?;
            let (internal, _) = accept::listen((Ipv4Addr::LOCALHOST, 0).into())?;
            Some(CoordinatorPorts { bound, internal })
        } else {
            None
        };
        let membership = match &coordinator {
            Some(_) => None,
            None => Membership::read(&config.coordinator.data_dir)?,
        };
        if coordinator.is_none() && membership.is_none() {
            bail!(
                "this machine is no node yet; `lectern node join http://COORDINATOR:8000 --secret SECRET` makes it one"
            );
        }
        let node = match (roles.node, &membership) {
            (false, _) => None,
            (true, Some(membership)) => {
                Some(NodeParts::bind(&config, &membership.name, true, (&front, shares), &registry)?)
            }
            (true, None) => {
                let (name, is_linked) = (&config.node.name, config.link.enabled);
                if is_linked {
                    certify(&config, name)?;
                }
                Some(NodeParts::bind(&config, name, is_linked, (&front, shares), &registry)?)
            }
        };
        let admin = config.node.admin_listen;
        let admin = admin::bind(admin).with_context(|| format!("cannot listen for operators on {admin}"))?;
        Ok(Self { coordinator, node, membership, admin, registry, front, shares, config })
    }

    /// Where everything is.
    pub(crate) fn addresses(&self) -> Addresses {
        let coordinator::Config { mode, allow_public_open, .. } = self.config.coordinator;
        let is_open = mode == coordinator::Mode::Open;
        let scheme = if self.front.tls.is_some() { "https" } else { "http" };
        let page = self.coordinator.as_ref().map(|coordinator| {
            let (class, http) = (coordinator.bound.default_class(), coordinator.bound.local_addr());
            Page {
                http,
                class: class.slug.clone(),
                key: class.stream_key.clone(),
                pin: (!is_open || !allow_public_open).then(|| class.pin.clone()),
                asked: if is_open { Asked::FromOutside } else { Asked::All },
                watch_url: format!("{scheme}://{}/watch/{}", shown(http), class.slug),
            }
        });
        let node = self.node.as_ref().map(NodeParts::ports);
        Addresses { page, node, admin: self.admin.local_addr(), nodes: Vec::new() }
    }

    /// By what further nodes of this machine join.
    pub(crate) fn door(&self) -> anyhow::Result<Door> {
        let CoordinatorPorts { bound, internal } =
            self.coordinator.as_ref().context("no coordinator is here")?;
        let secret = bound.node_secret().to_owned();
        Ok(Door { coordinator: internal.local_addr()?, secret, hearing: bound.hearing() })
    }

    /// Runs the roles, and a fleet of further nodes, until asked to end, or until one of them ends by itself.
    pub(crate) async fn run(self, ending: Ending, fleet: Option<Fleet>) -> anyhow::Result<()> {
        let Ending { signal: asked, owner } = ending;
        let Self { coordinator, node, membership, admin, registry, front, shares, config } = self;
        let mut roles = Supervisor::new(DRAIN_MAX);
        let draining = Draining::new(Duration::from_secs(config.node.drain_seconds.into()));
        let end = CancellationToken::new();
        let admin_context = admin::Context {
            registry,
            metrics: front.metrics.clone(),
            leaving: roles.drain(Stage::Serving),
            failed: roles.failed(),
            draining: draining.clone(),
        };
        if let Some(tls) = front.tls.clone() {
            roles.spawn(Stage::Serving, "tls", |drain| inject("tls", tls.follow(drain)));
        }
        let (bases, credential) = match (&coordinator, membership) {
            (Some(CoordinatorPorts { bound, internal }), _) => {
                let Node { name, public_url, .. } = config.node.clone();
                let credential = bound.credential(&NodeIdentity { name, public_url });
                (vec![format!("http://{}", internal.local_addr()?)], credential)
            }
            (None, Some(Membership { coordinators, credential, .. })) => (coordinators, credential),
            (None, None) => (Vec::new(), String::new()),
        };
        if let Some(CoordinatorPorts { bound, internal }) = coordinator {
            let (front, leaving) = (front.clone(), roles.drain(Stage::Serving));
            // The coordinator goes last: it writes down how the sessions ended.
            roles.spawn(Stage::Record, "coordinator", |drain| {
                inject("coordinator", bound.run(front, Some(internal), leaving, drain))
            });
        }
        let metrics = admin.local_addr();
        roles.spawn(Stage::Record, "admin", |drain| inject("admin", admin.run(admin_context, drain)));
        // A node that is alone has nowhere to send its viewers, nor has one whose cluster ends with it; a coordinator has none.
        let is_of_many = |node: &&NodeParts| node.link.is_some() && fleet.is_none();
        let remaining = node.as_ref().filter(is_of_many).map(NodeParts::remaining);
        if let Some(fleet) = fleet {
            roles.spawn(Stage::Serving, "fleet", |drain| inject("fleet", fleet.run(drain)));
        }
        if let Some(node) = node {
            node.spawn(
                &mut roles,
                (&bases, &credential),
                (front, shares),
                draining.clone(),
                (config, metrics),
            )?;
        }
        let ended = end.clone();
        let leaving = tokio::spawn(async move {
            let left = async {
                match remaining {
                    Some(remaining) => leave::run(asked, draining, remaining).await,
                    None => {
                        tokio::select! {
                            () = asked.cancelled() => {}
                            () = draining.begun() => {}
                        }
                    }
                }
            };
            tokio::select! {
                () = left => {}
                () = owner.cancelled() => tracing::info!("shutting down: whoever has started this process ends"),
            }
            ended.cancel();
        });
        let outcome = roles.run(end).await;
        leaving.abort();
        Ok(outcome?)
    }
}

impl NodeParts {
    fn bind(
        config: &Config,
        name: &str,
        is_linked: bool,
        (front, shares): (&Front, Shares),
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let rtmp = config.ingest.listen;
        let ingest = ingest::bind(config.ingest.clone(), front.tls.clone(), registry)
            .with_context(|| format!("cannot listen for RTMP on {rtmp} or for RTMPS"))?;
        let (whep, media) = (config.whep.listen, config.whep.media_listen);
        let share = config.whep.media_connections_max.min(shares.media);
        let sized = whep_node::Config { media_connections_max: share, ..config.whep.clone() };
        let whep = whep_node::bind(sized, registry)
            .with_context(|| format!("cannot listen for WHEP on {whep} or for media on {media}"))?;
        let hub = Hub::new(hub::Limits::default());
        let [cert, key, authority] = config.link_files();
        let link = if is_linked {
            let identity = Identity::load(&cert, &key, &authority)?;
            if identity.node() != name {
                bail!(
                    "{} is the certificate of the node {}, and this is {name}",
                    cert.display(),
                    identity.node()
                );
            }
            let link = Link::bind(config.link.listen, identity, hub.clone())?;
            agent::register_link(registry, &link)?;
            Some(link)
        } else {
            None
        };
        let gauges = Gauges::new(registry)?;
        Ok(Self { name: name.to_owned(), ingest, whep, hub, link, gauges })
    }

    fn ports(&self) -> NodePorts {
        let (whep, rtmps) = (self.whep.local_addr(), self.ingest.tls_addr());
        let rtmp = self.ingest.local_addr();
        NodePorts {
            rtmp: rtmp.or(rtmps).unwrap_or(whep),
            rtmps,
            whep,
            media: self.whep.media_addr(),
            link: self.link.as_ref().and_then(|link| link.local_addr().ok()),
            rtmp_url: match (rtmp, rtmps) {
                (_, Some(rtmps)) => format!("rtmps://{}/live", shown(rtmps)),
                (rtmp, None) => format!("rtmp://{}/live", shown(rtmp.unwrap_or(whep))),
            },
        }
    }

    fn remaining(&self) -> Remaining {
        Remaining { audience: self.whep.audience(), hub: self.hub.clone() }
    }

    /// Runs the roles of a node that speaks to the coordinators at `bases`.
    fn spawn(
        self,
        roles: &mut Supervisor,
        (bases, credential): (&[String], &str),
        (front, shares): (Front, Shares),
        draining: Draining,
        (config, metrics): (Config, SocketAddr),
    ) -> anyhow::Result<()> {
        let Self { name: node, ingest, whep, hub, link, gauges } = self;
        let (control, verifier) = (Client::of(bases, credential)?, TokenVerifier::of(bases)?);
        let link_port = link.as_ref().map(Link::local_addr).transpose()?.map(|address| address.port());
        let leaving = roles.drain(Stage::Serving);
        let pulls = link.clone().map(|link| Pulls::new(link, control.clone(), leaving));
        let reporter = Reporter {
            hub: hub.clone(),
            audience: Viewers(whep.audience()),
            capacity_bps: capacity_bps(config.node.capacity_mbps),
            region: config.node.region,
            gauges,
            draining: draining.clone(),
            control: control.clone(),
            verifier: verifier.clone(),
            node: node.clone(),
            whep_port: whep.local_addr().port(),
            rtmp_port: ingest.local_addr().map(|address| address.port()),
            rtmps_port: ingest.tls_addr().map(|address| address.port()),
            link: link_port.map(|port| LinkAddress { host: config.link.announce, port }),
            metrics,
            started_at_ms: now_ms(),
            pulls: pulls.clone(),
        };
        let ingest_context = ingest::Context {
            hub: hub.clone(),
            control: control.clone(),
            node: node.clone(),
            draining: draining.clone(),
            accept: front.metrics.clone(),
            connections_max: shares.rtmp,
        };
        let (swept, sweeper) = (hub.clone(), control.clone());
        let source = pulls.map(|pulls| -> Arc<dyn Source> { Arc::new(pulls) });
        let default_class = config.coordinator.default_class;
        let whep_context =
            whep_node::Context { hub, source, control, verifier, node, draining, default_class, front };
        #[cfg(debug_assertions)]
        if crate::fault::asked_for("shard").is_some() {
            let harm = whep.shard_panic();
            roles.spawn(Stage::Serving, "fault", |drain| crate::fault::harm_at_signal(harm, drain));
        }
        roles.spawn(Stage::Serving, "ingest", |drain| inject("ingest", ingest.run(ingest_context, drain)));
        roles.spawn(Stage::Serving, "whep", |drain| inject("whep", whep.run(whep_context, drain)));
        if let Some(link) = link {
            roles.spawn(Stage::Serving, "link", |drain| {
                inject("link", async move {
                    link.run(drain).await;
                    Ok::<(), Infallible>(())
                })
            });
        }
        roles.spawn(Stage::Serving, "sweeper", |drain| {
            inject("sweeper", agent::sweep::run(swept, sweeper, drain))
        });
        roles.spawn(Stage::Serving, "reporter", |drain| inject("reporter", reporter.run(drain)));
        Ok(())
    }
}

/// Makes the certificate of the node that runs beside the coordinator, once.
fn certify(config: &Config, name: &str) -> anyhow::Result<()> {
    let [cert, key, ca] = config.link_files();
    if cert.exists() {
        return Ok(());
    }
    let known_as = control::certificate_name(name)
        .with_context(|| format!("{name:?}: a node's name has lower-case letters, digits and hyphens"))?;
    let authority = Authority::open(&config.coordinator.data_dir.join(LINK_FOLDER))?;
    authority.issue_for_node(known_as, &cert, &key)?;
    if !ca.exists() {
        process::file::replace(&ca, authority.pem().as_bytes(), 0o644)?;
    }
    Ok(())
}
