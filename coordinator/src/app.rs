//! What every request may need.
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use control::{Claims, TokenError};
use process::address::TrustedProxies;
use process::limiter::Limiter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::classes::Classes;
use crate::config::{LoadSource, Mode};
use crate::keys::Keys;
use crate::lessons::Lessons;
use crate::metrics::Metrics;
use crate::openings::Openings;
use crate::registry::Registry;
use crate::revocations::Revocations;
use crate::store::{Store, StoreError};

/// The state of a coordinator.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) classes: Arc<Classes>,
    pub(crate) keys: Keys,
    pub(crate) revocations: Revocations,
    pub(crate) registry: Mutex<Registry>,
    /// Names this life of the coordinator: its tokens carry it, and nodes count the joins of each life.
    pub(crate) run: String,
    pub(crate) openings: Openings,
    pub(crate) lessons: Lessons,
    pub(crate) metrics: Metrics,
    pub(crate) mode: Mode,
    pub(crate) allow_public_open: bool,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) token_ttl: Duration,
    /// What nodes join with, and what seals their credentials.
    pub(crate) node_secret: String,
    /// Where the authority of their certificates is.
    pub(crate) link_folder: PathBuf,
    pub(crate) operator_secret: String,
    /// Who knows it may look at every class, and do nothing else.
    pub(crate) monitor_secret: String,
    /// After how many days another key signs; 0 for never.
    pub(crate) signing_key_days: u32,
    /// For asking nodes and Prometheus; each request has its own time limit.
    pub(crate) http: reqwest::Client,
    /// How many offers may be on their way to nodes at a time.
    pub(crate) forwards: Semaphore,
    pub(crate) load_source: LoadSource,
    pub(crate) prometheus_url: String,
    pub(crate) tokens: Limiter,
    /// Looks at a class's stream by who has a token.
    pub(crate) looks: Limiter,
    /// Whether the database has failed at nothing since it last wrote something.
    pub(crate) is_database_up: AtomicBool,
    /// When it began to do so.
    pub(crate) database_up_since: Mutex<Instant>,
    /// Cancelled when the process begins to drain.
    pub(crate) leaving: OnceLock<CancellationToken>,
}

impl App {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a token says, if it is good and not revoked.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.revocations.verify(&self.keys, token)
    }

    /// Whether the database does what it is asked.
    pub(crate) fn is_database_up(&self) -> bool {
        self.is_database_up.load(Ordering::Relaxed)
    }

    /// For how long it has done so, if it does.
    pub(crate) fn database_up_for(&self, now: Instant) -> Option<Duration> {
        let since = *self.database_up_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_database_up().then(|| now.saturating_duration_since(since))
    }

    /// Notes that the database wrote something. Nothing else shows that it works again.
    pub(crate) fn on_written(&self) {
        if !self.is_database_up.swap(true, Ordering::Relaxed) {
            *self.database_up_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            tracing::info!("the database writes again");
        }
    }

    /// Notes that the database failed. Its words are for the log, once an outage.
    pub(crate) fn on_database_error(&self, error: &StoreError) {
        self.metrics.database_errors.inc();
        if self.is_database_up.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "the database failed; tokens and known stream keys are not concerned");
        }
    }
}

/// Seconds since 1970, as tokens have them.
pub(crate) fn now_seconds() -> u64 {
    process::clock::now_ms() / 1000
}

/// Milliseconds since 1970, as the database keeps them.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(process::clock::now_ms()).unwrap_or(i64::MAX)
}
