//! The keys as a node holds them: fetched when a token names one that is not known.
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::sync::Mutex;

use super::{Claims, KeySet, TokenError};
use crate::body::{self, ReadError};

/// The coordinator answers from memory; what takes longer is an outage.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// Unknown keys lead to a fetch at most this often: strangers can name any key.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of a set of keys: one key has about 150.
const KEYS_BYTES_MAX: usize = 16 << 10;

/// Verifies tokens with the coordinator's published keys; clones share them.
#[derive(Clone, Debug)]
pub struct TokenVerifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    jwks_url: String,
    http: reqwest::Client,
    keys: RwLock<KeySet>,
    /// When the last fetch ended. Held while one is under way, so that there is only one.
    fetched: Mutex<Option<Instant>>,
}

/// Why the keys could not be fetched.
#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the answer is not a set of keys: {0}")]
    Parse(#[from] serde_json::Error),
}

impl TokenVerifier {
    /// For the coordinator at `base`, such as `http://127.0.0.1:8000`.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(FETCH_TIMEOUT).no_proxy().build()?;
        Ok(Self(Arc::new(Inner {
            jwks_url: format!("{}/.well-known/jwks.json", base.trim_end_matches('/')),
            http,
            keys: RwLock::default(),
            fetched: Mutex::default(),
        })))
    }

    /// Verifies a token; asks the coordinator for its keys only when the token names one that is not known.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        match self.verify_offline(token, SystemTime::now()) {
            Err(TokenError::UnknownKey) => {
                self.refresh().await;
                self.verify_offline(token, SystemTime::now())
            }
            outcome => outcome,
        }
    }

    /// Verifies a token with the keys that are known.
    pub fn verify_offline(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).verify(token, now)
    }

    /// Fetches the keys, unless that was just done. Failure leaves the known ones.
    pub async fn refresh(&self) {
        let mut fetched = self.0.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return;
        }
        match self.fetch().await {
            Ok(keys) => *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys,
            Err(error) => tracing::warn!(%error, "the coordinator's keys cannot be fetched"),
        }
        // Counted from the end: whoever queued behind a fetch that took long has its outcome, and asks for no other.
        *fetched = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let response = self.0.http.get(&self.0.jwks_url).send().await?.error_for_status()?;
        Ok(KeySet::parse(&body::read(response, KEYS_BYTES_MAX).await?)?)
    }
}
