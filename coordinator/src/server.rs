//! The coordinator's port, and its start and end.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node::limiter::Limiter;
use prometheus::Registry as Prometheus;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, App};
use crate::keys::SigningKey;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::secret;
use crate::store::{Store, StoreError};

/// Tokens for one address at once, and a second after that: a school is one address.
const TOKENS_AT_ONCE: u32 = 600;
const TOKENS_PER_SECOND: u32 = 60;
/// Guesses of a PIN from one address at once: a class that comes in together. After that, one a second.
const GUESSES_AT_ONCE: u32 = 120;
const GUESSES_PER_SECOND: u32 = 1;
/// How often silent nodes are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(2);
/// Letters of the default class's stream key, and digits of its PIN.
const KEY_LEN: usize = 24;
const PIN_LEN: usize = 6;

/// Who is given tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everybody who reaches the server. Refused on public addresses.
    Open,
    /// Whoever knows the class's PIN.
    #[default]
    Guarded,
}

/// How the coordinator is set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where browsers and nodes connect.
    pub listen: SocketAddr,
    /// Where the database and the keys are.
    pub data_dir: PathBuf,
    /// Another database than SQLite in `data_dir`.
    pub database_url: Option<String>,
    /// Who is given tokens.
    pub mode: Mode,
    /// Allows `open` on a public address all the same.
    pub allow_public_open: bool,
    /// Seconds for which tokens are good.
    pub token_ttl_seconds: u64,
    /// What nodes prove themselves with. Made at random when empty.
    pub node_secret: String,
    /// The class that exists from the beginning.
    pub default_class: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8000).into(),
            data_dir: PathBuf::from("data"),
            database_url: None,
            mode: Mode::default(),
            allow_public_open: false,
            token_ttl_seconds: 3600,
            node_secret: String::new(),
            default_class: "lesson".to_owned(),
        }
    }
}

/// The class that exists from the beginning.
#[derive(Clone, Debug)]
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
        "open mode gives everybody a token, so it is refused on the public address {0}; \
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
    /// Its database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Metrics of the same name exist.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// The coordinator with its port held and nothing running.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    default_class: DefaultClass,
}

/// Takes the port, opens the database, loads the keys.
pub async fn bind(config: Config, prometheus: &Prometheus) -> Result<Bound, BindError> {
    let ip = config.listen.ip();
    if config.mode == Mode::Open && !config.allow_public_open {
        let public =
            if ip.is_unspecified() { public_address() } else { Some(ip).filter(|ip| !is_private(*ip)) };
        if let Some(public) = public {
            return Err(BindError::PublicOpen(public));
        }
    }
    let folder = |error| BindError::Folder { folder: config.data_dir.clone(), error };
    std::fs::create_dir_all(&config.data_dir).map_err(folder)?;
    let key = SigningKey::load_or_make(&config.data_dir.join("signing-key.pkcs8")).map_err(folder)?;
    let text = |name: &str, make: fn() -> String| {
        let made = secret::load_or_make(&config.data_dir.join(name), || Ok(make().into_bytes()));
        made.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let stream_key = text("stream-key", || secret::random_text(KEY_LEN)).map_err(folder)?;
    let pin = text("class-pin", || secret::random_pin(PIN_LEN)).map_err(folder)?;
    let url = config.database_url.clone().unwrap_or_else(|| Store::sqlite_url(&config.data_dir));
    let store = Store::open(&url).await?;
    let now = http::now_ms();
    let class = match store.class(&config.default_class).await? {
        Some(class) => class,
        None => store.add_class(&config.default_class, "Lesson", Some(&pin), now).await?,
    };
    store.put_stream_key(&class, &stream_key, now).await?;
    let mut registry = Registry::default();
    for node in store.nodes_with_sessions().await? {
        registry.expect(Instant::now(), &node);
    }
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| BindError::Listen { address: config.listen, error })?;
    let address =
        listener.local_addr().map_err(|error| BindError::Listen { address: config.listen, error })?;
    let node_secret =
        if config.node_secret.is_empty() { secret::random_text(KEY_LEN * 2) } else { config.node_secret };
    let app = App {
        store,
        key,
        registry: registry.into(),
        metrics: Metrics::new(prometheus)?,
        prometheus: prometheus.clone(),
        mode: config.mode,
        token_ttl: Duration::from_secs(config.token_ttl_seconds),
        node_secret,
        default_class: config.default_class,
        tokens: Limiter::new(TOKENS_AT_ONCE, TOKENS_PER_SECOND),
        guesses: Limiter::new(GUESSES_AT_ONCE, GUESSES_PER_SECOND),
    };
    let default_class = DefaultClass { slug: class.slug, stream_key, pin };
    Ok(Bound { listener, address, app: Arc::new(app), default_class })
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

    /// What nodes prove themselves with.
    pub fn node_secret(&self) -> &str {
        &self.app.node_secret
    }

    /// Serves until drained.
    pub async fn run(self, drain: CancellationToken) -> io::Result<()> {
        let service = http::router(Arc::clone(&self.app)).into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(self.listener, service);
        tokio::select! {
            outcome = serve => outcome,
            () = reap(&self.app) => Ok(()),
            () = drain.cancelled() => Ok(()),
        }
    }
}

/// Ends the sessions of nodes that are silent.
async fn reap(app: &Arc<App>) {
    let mut interval = tokio::time::interval(REAP_INTERVAL);
    loop {
        interval.tick().await;
        let changes = app.registry().on_timeout(Instant::now());
        for change in &changes {
            tracing::warn!(?change, "a node is silent");
        }
        // The database's failure is logged where it happens; the next node's silence is another matter.
        let _ = http::apply(app, changes).await;
    }
}

/// An address of this machine that the world can reach, if the kernel would use one.
fn public_address() -> Option<IpAddr> {
    // Addresses of documentation: no packet is sent, the kernel only says which source it would take.
    ["192.0.2.1:9", "[2001:db8::1]:9"].into_iter().find_map(|towards| {
        let any = if towards.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = std::net::UdpSocket::bind(any).ok()?;
        socket.connect(towards).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!is_private(ip) && !ip.is_unspecified()).then_some(ip)
    })
}

/// Loopback, link-local, the private ranges of RFC 1918 and RFC 4193, and RFC 6598's shared range.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
