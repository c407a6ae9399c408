//! The coordinator's port, and its start and end.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use process::connections::{Connections, Limits};
use process::limiter::Limiter;
use process::serve::{Front, PlainHttp, Server};
use prometheus::Registry as Prometheus;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Mode};
use crate::http::{self, App};
use crate::keys::SigningKey;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::{reach, reaper, secret};

/// Guesses of a PIN from one address at once: a class that comes in together. After that, one a second.
const GUESSES_AT_ONCE: u32 = 120;
const GUESSES_PER_SECOND: u32 = 1;
/// Letters of the default class's stream key, and digits of its PIN.
const KEY_LEN: usize = 24;
pub(crate) const PIN_LEN: usize = 6;
/// Letters of the secret that nodes share.
const NODE_SECRET_LEN: usize = 48;

/// Connections over loopback: a few of each node of this machine, which keeps them open.
const INTERNAL_MAX: usize = 64;

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
    pub(crate) app: Arc<App>,
    default_class: DefaultClass,
}

/// Takes the port, opens the database, loads the keys.
pub async fn bind(config: Config, prometheus: &Prometheus) -> Result<Bound, BindError> {
    config.validate()?;
    if config.mode == Mode::Open
        && !config.allow_public_open
        && let Some(public) = reach::public_address(config.listen.ip())
    {
        return Err(BindError::PublicOpen(public));
    }
    let secrets = Secrets::load_or_make(&config)
        .map_err(|error| BindError::Folder { folder: config.data_dir.clone(), error })?;
    let url = config.database_url.clone().unwrap_or_else(|| Store::sqlite_url(&config.data_dir));
    let store = Store::open(&url).await?;
    let default_class = store_default_class(&store, &config.default_class, &secrets).await?;
    let mut registry = Registry::default();
    for node in store.nodes_with_sessions().await? {
        registry.expect(Instant::now(), &node);
    }
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| BindError::Listen { address: config.listen, error })?;
    let address =
        listener.local_addr().map_err(|error| BindError::Listen { address: config.listen, error })?;
    let app = App {
        store,
        key: secrets.signing_key,
        registry: registry.into(),
        metrics: Metrics::new(prometheus)?,
        prometheus: prometheus.clone(),
        mode: config.mode,
        token_ttl: config.token_ttl(),
        node_secret: secrets.node,
        default_class: config.default_class,
        tokens: Limiter::new(config.tokens_at_once, config.tokens_per_second),
        guesses: Limiter::new(GUESSES_AT_ONCE, GUESSES_PER_SECOND),
    };
    Ok(Bound { listener, address, app: Arc::new(app), default_class })
}

/// What is made once and kept in the data folder.
struct Secrets {
    signing_key: SigningKey,
    stream_key: String,
    pin: String,
    node: String,
}

impl Secrets {
    fn load_or_make(config: &Config) -> io::Result<Self> {
        secret::make_folder(&config.data_dir)?;
        let text = |name: &str, make: fn() -> String| {
            let made = secret::load_or_make(&config.data_dir.join(name), || Ok(make().into_bytes()));
            made.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        Ok(Self {
            signing_key: SigningKey::load_or_make(&config.data_dir.join("signing-key.pkcs8"))?,
            stream_key: text("stream-key", || secret::random_text(KEY_LEN))?,
            pin: text("class-pin", || secret::random_pin(PIN_LEN))?,
            node: match config.node_secret.as_str() {
                "" => text("node-secret", || secret::random_text(NODE_SECRET_LEN))?,
                configured => configured.to_owned(),
            },
        })
    }
}

/// Makes sure that there is a default class, and that the key and the PIN that people are shown are its own: also after
/// another class was made the default, and after a file was replaced.
async fn store_default_class(
    store: &Store,
    slug: &str,
    secrets: &Secrets,
) -> Result<DefaultClass, StoreError> {
    let now_ms = http::now_ms();
    let class = match store.class(slug).await? {
        Some(class) => class,
        None => store.add_class(slug, "Lesson", &secrets.pin, now_ms).await?,
    };
    store.put_pin(&class, &secrets.pin).await?;
    store.put_stream_key(&class, &secrets.stream_key, now_ms).await?;
    let (stream_key, pin) = (secrets.stream_key.clone(), secrets.pin.clone());
    Ok(DefaultClass { slug: class.slug, stream_key, pin })
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

    /// Serves until drained. The nodes of this machine come over `internal`, which is on loopback: in plain HTTP
    /// whatever certificate the public port has, and into no crowd.
    pub async fn run(
        self,
        front: Front,
        internal: Option<TcpListener>,
        drain: CancellationToken,
    ) -> io::Result<()> {
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
        tokio::select! {
            ((), ()) = serve => {}
            never = reaper::run(&self.app) => match never {},
        }
        self.app.store.close().await;
        Ok(())
    }
}
