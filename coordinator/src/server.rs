//! The coordinator's port, and its start and end.
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use process::accept;
use process::connections::{Connections, Limits};
use process::limiter::Limiter;
use process::serve::{Front, PlainHttp, Server, run_local};
use prometheus::Registry as Prometheus;
use reqwest::redirect::Policy;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::authority::{Authority, AuthorityError};
use crate::classes::{ChangeError, Classes, DefaultSecrets, KEY_FILE, PIN_FILE, STREAM_KEY_LEN_MIN};
use crate::config::{Config, ConfigError, LINK_FOLDER, Mode};
use crate::credential::NodeIdentity;
use crate::hearing::Hearing;
use crate::keys::{self, Keys, Ring};
use crate::lessons::Lessons;
use crate::metrics::Metrics;
use crate::openings::{self, Openings};
use crate::pins::Pins;
use crate::registry::Registry;
use crate::revocations::Revocations;
use crate::shared::{Agreement, SharedError};
use crate::store::{Store, StoreError};
use crate::{ageing, bus, http, lessons, loads, operator, public_address, reaper, secret};

/// Letters of the secrets of nodes and operators, and of the one that PINs are hashed with: 240 bits.
const SECRET_LEN: usize = 48;

/// Letters of the name of a coordinator's life.
const RUN_LEN: usize = 8;

/// Connections over loopback: a few of each node of this machine, which keeps them open.
const INTERNAL_MAX: usize = 64;

/// Offers that are passed to nodes at a time: each waits for milliseconds, or for a node that hangs.
const FORWARDS_MAX: usize = 256;

/// The class that exists from the beginning.
#[derive(Clone)]
pub struct DefaultClass {
    /// Its name in addresses.
    pub slug: String,
    /// Its stream key.
    pub stream_key: String,
    /// Its PIN, for guarded mode.
    pub pin: String,
}

/// Why the coordinator cannot begin.
#[derive(Debug, Error)]
pub enum BindError {
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Everybody in the world could ask for tokens.
    #[error(
        "open mode asks whoever is near for no PIN, so it is refused on the public address {0}; \
         listen on a private address, use guarded mode, or set allow_public_open"
    )]
    PublicOpen(IpAddr),
    /// Its folder cannot be used.
    #[error("cannot use the data folder {folder}: {error}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process uses the folder.
    #[error("another process uses the data folder {0}")]
    Locked(PathBuf),
    /// The PIN in the folder is one that nobody may choose.
    #[error("the PIN in {0} must have 6 to 64 printable ASCII characters without spaces")]
    Pin(PathBuf),
    /// The stream key in the folder could be guessed.
    #[error(
        "the stream key in {0} must have at least {STREAM_KEY_LEN_MIN} characters; without the file one is made"
    )]
    Key(PathBuf),
    /// Its database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secrets of the cluster cannot be had.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// The authority of the nodes' certificates cannot be had.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The default class cannot be stored.
    #[error("the default class cannot be stored: {0}")]
    DefaultClass(String),
    /// Metrics of the same name exist.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// Nodes and Prometheus cannot be asked.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// The coordinator with its port held and nothing running.
pub struct Bound {
    listener: TcpListener,
    operators: UnixListener,
    address: SocketAddr,
    pub(crate) app: Arc<App>,
    default_class: DefaultClass,
    /// Held until the end.
    _lock: File,
}

/// Takes the port and the data folder, opens the database, loads the keys.
pub async fn bind(config: Config, prometheus: &Prometheus) -> Result<Bound, BindError> {
    config.validate()?;
    if config.mode == Mode::Open
        && !config.allow_public_open
        && let Some(public) = public_address(config.listen.ip())
    {
        return Err(BindError::PublicOpen(public));
    }
    for network in config.trusted_proxies.wide() {
        tracing::warn!(%network, "every machine of this network is trusted as a proxy, and can claim to come from anywhere");
    }
    let folder = config.data_dir.clone();
    let cannot_use = |error| BindError::Folder { folder: folder.clone(), error };
    secret::make_folder(&folder).map_err(cannot_use)?;
    let lock = operator::lock(&folder).map_err(cannot_use)?;
    let lock = lock.ok_or_else(|| BindError::Locked(folder.clone()))?;
    let (app, default_class) = open(&config, prometheus).await?;
    for node in app.store.nodes_with_sessions().await? {
        app.registry().expect(Instant::now(), &node);
    }
    let (listener, address) =
        accept::listen(config.listen).map_err(|error| BindError::Listen { address: config.listen, error })?;
    let operators = operator::listen(&folder).map_err(cannot_use)?;
    Ok(Bound { listener, operators, address, app: Arc::new(app), default_class, _lock: lock })
}

/// Opens what is in the data folder. Whoever calls this holds its lock.
pub(crate) async fn open(config: &Config, prometheus: &Prometheus) -> Result<(App, DefaultClass), BindError> {
    let folder = &config.data_dir;
    let cannot_use = |error| BindError::Folder { folder: folder.clone(), error };
    let url = config.database_url.clone().unwrap_or_else(|| Store::sqlite_url(folder));
    let store = Store::open(&url).await?;
    let (mut secrets, seal) = if store.is_shared() {
        let agreement = Agreement::begin(&store, config).await?;
        let secrets = Secrets::load_or_make(config).map_err(cannot_use)?;
        Authority::open(&folder.join(LINK_FOLDER))?;
        (secrets, Some(Arc::new(agreement.end().await?)))
    } else {
        (Secrets::load_or_make(config).map_err(cannot_use)?, None)
    };
    let (pins, slug) = (Pins::new(secrets.pin.as_bytes()), config.default_class.clone());
    let shared = (store.clone(), seal.clone());
    let opened = Classes::open(shared, pins, folder.clone(), slug, &mut secrets.default).await;
    let classes = opened.map_err(|error| match error {
        ChangeError::Store(error) => BindError::Store(error),
        ChangeError::File(error) => cannot_use(error),
        ChangeError::Pin => BindError::Pin(folder.join(PIN_FILE)),
        ChangeError::Key => BindError::Key(folder.join(KEY_FILE)),
        error => BindError::DefaultClass(error.to_string()),
    })?;
    let DefaultSecrets { stream_key, pin } = secrets.default;
    let default_class = DefaultClass { slug: config.default_class.clone(), stream_key, pin };
    let app = App {
        keys: Keys::new(store.clone(), seal, folder.clone(), secrets.signing_keys),
        revocations: Revocations::open(store.clone()).await?,
        store,
        classes: Arc::new(classes),
        registry: Registry::default().into(),
        run: secret::random_text(RUN_LEN),
        openings: Openings::default(),
        lessons: Lessons::default(),
        metrics: Metrics::new(prometheus)?,
        mode: config.mode,
        allow_public_open: config.allow_public_open,
        trusted_proxies: config.trusted_proxies.clone(),
        token_ttl: config.token_ttl(),
        node_secret: secrets.node,
        link_folder: folder.join(LINK_FOLDER),
        operator_secret: secrets.operator,
        monitor_secret: secrets.monitor,
        signing_key_days: config.signing_key_days,
        // Who is asked is asked directly, and does not send us elsewhere.
        http: reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()?,
        forwards: Semaphore::new(FORWARDS_MAX),
        load_source: config.load_source,
        prometheus_url: config.prometheus_url.clone(),
        tokens: Limiter::new(config.tokens_at_once, config.tokens_per_second),
        looks: Limiter::new(config.tokens_at_once, config.tokens_per_second),
        is_database_up: AtomicBool::new(true),
        database_up_since: Instant::now().into(),
        leaving: OnceLock::new(),
    };
    Ok((app, default_class))
}

/// What is made once and kept in the data folder.
struct Secrets {
    signing_keys: Ring,
    default: DefaultSecrets,
    /// What PINs are hashed with.
    pin: String,
    node: String,
    operator: String,
    monitor: String,
}

impl Secrets {
    fn load_or_make(config: &Config) -> io::Result<Self> {
        let folder = &config.data_dir;
        let kept =
            |name: &str| secret::load_or_make_text(&folder.join(name), || secret::random_text(SECRET_LEN));
        let set_or_kept =
            |set: &String, name: &str| if set.is_empty() { kept(name) } else { Ok(set.clone()) };
        Ok(Self {
            signing_keys: keys::load_or_make(folder)?,
            default: DefaultSecrets::load_or_make(folder)?,
            pin: kept("pin-secret")?,
            node: set_or_kept(&config.node_secret, "node-secret")?,
            operator: set_or_kept(&config.operator_secret, "operator-secret")?,
            monitor: kept("monitor-secret")?,
        })
    }
}

impl Bound {
    /// Where browsers and nodes connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The class that exists from the beginning.
    pub fn default_class(&self) -> &DefaultClass {
        &self.default_class
    }

    /// What nodes join with.
    pub fn node_secret(&self) -> &str {
        &self.app.node_secret
    }

    /// Which nodes it hears, once it runs.
    pub fn hearing(&self) -> Hearing {
        Hearing(Arc::clone(&self.app))
    }

    /// What a node of this process proves itself with.
    pub fn credential(&self, identity: &NodeIdentity) -> String {
        identity.credential(&self.app.node_secret)
    }

    /// Serves until drained; from `leaving` on it says that it is not ready. The nodes of this machine come over `internal`,
    /// which is on loopback: in plain HTTP whatever certificate the public port has, and into no crowd.
    pub async fn run(
        self,
        front: Front,
        internal: Option<TcpListener>,
        leaving: CancellationToken,
        drain: CancellationToken,
    ) -> io::Result<()> {
        // It is run once.
        let _ = self.app.leaving.set(leaving);
        let router = http::router(Arc::clone(&self.app));
        let limits = Limits { connections_max: INTERNAL_MAX, per_network_max: INTERNAL_MAX };
        let inside = Front { connections: Connections::new(limits), tls: None, ..front.clone() };
        let inside =
            Server { port: "internal", router: router.clone(), front: inside, plain: PlainHttp::Refuse };
        let serve_inside = async {
            if let Some(listener) = internal {
                inside.run(listener, drain.clone()).await;
            }
        };
        let server = Server { port: "http", router, front, plain: PlainHttp::Redirect };
        let serve = async { tokio::join!(server.run(self.listener, drain.clone()), serve_inside) };
        let operators = operator::router(Arc::clone(&self.app));
        let serve = async { tokio::join!(serve, run_local(self.operators, operators, drain.clone())) };
        tokio::select! {
            _ = serve => {}
            never = reaper::run(&self.app) => match never {},
            never = bus::run(&self.app) => match never {},
            never = loads::run(&self.app) => match never {},
            never = ageing::run(&self.app) => match never {},
            never = lessons::run(&self.app) => match never {},
        }
        openings::flush_last(&self.app).await;
        self.app.store.close().await;
        Ok(())
    }
}
