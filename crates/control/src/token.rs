//! Tokens: JSON Web Tokens signed with EdDSA, verified without asking anybody.
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;

/// Clocks of nodes and coordinator may differ by this much.
const LEEWAY_SECONDS: u64 = 30;
/// Characters of a token: ours have about 500.
const TOKEN_LEN_MAX: usize = 4096;
/// Unknown keys lead to a fetch at most this often: strangers can name any key.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Keys of one set at most.
const KEYS_MAX: usize = 32;

/// What somebody is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Watches a class.
    Student,
    /// Gives one.
    Teacher,
    /// Watches many.
    Monitor,
    /// A program.
    Service,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Watch.
    View,
    /// Publish.
    Publish,
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// About whom.
    pub sub: String,
    /// What that is.
    pub role: Role,
    /// What it may do.
    pub rights: Vec<Right>,
    /// The class that it may do it in.
    pub cls: String,
    /// Seconds since 1970 until which it is good.
    pub exp: u64,
    /// And from which.
    pub nbf: u64,
    /// When it was issued.
    pub iat: u64,
    /// Its own number.
    pub jti: String,
}

impl Claims {
    /// The issuer of all our tokens.
    pub const ISSUER: &'static str = "lectern";
    /// The audience of tokens for media.
    pub const AUDIENCE: &'static str = "lectern-media";
}

/// Why a token is not good. Nothing in it helps to make a better forgery.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// It is not a token of ours at all, or not signed by us.
    #[error("the token is not valid")]
    Invalid,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It is for somebody else.
    #[error("the token is for another audience or issuer")]
    Foreign,
    /// It names a key that is not known; the keys may have changed.
    #[error("the token is not valid")]
    UnknownKey,
}

/// Verifies tokens with the coordinator's published keys; clones share them.
#[derive(Clone)]
pub struct TokenVerifier(Arc<Inner>);

struct Inner {
    jwks_url: String,
    http: reqwest::Client,
    keys: RwLock<HashMap<String, DecodingKey>>,
    fetched: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenVerifier").field(&self.0.jwks_url).finish()
    }
}

impl TokenVerifier {
    /// For the coordinator at `base`.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?;
        Ok(Self(Arc::new(Inner {
            jwks_url: format!("{}/.well-known/jwks.json", base.trim_end_matches('/')),
            http,
            keys: RwLock::default(),
            fetched: Mutex::default(),
        })))
    }

    /// Verifies a token; asks the coordinator for its keys only when the token names one that is not known.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        match self.verify_offline(token) {
            Err(TokenError::UnknownKey) => {
                self.refresh().await;
                self.verify_offline(token)
            }
            outcome => outcome,
        }
    }

    /// Verifies a token with the keys that are known.
    pub fn verify_offline(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Invalid);
        }
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&kid).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[Claims::ISSUER]);
        validation.set_audience(&[Claims::AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        let decoded = decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => TokenError::Foreign,
            _ => TokenError::Invalid,
        })?;
        Ok(decoded.claims)
    }

    /// Fetches the keys, unless that was just done. Failure leaves the known ones.
    pub async fn refresh(&self) {
        let mut fetched = self.0.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return;
        }
        *fetched = Some(Instant::now());
        let answer = async { self.0.http.get(&self.0.jwks_url).send().await?.json::<JwkSet>().await };
        match answer.await {
            Ok(set) => {
                let keys = set.keys.iter().take(KEYS_MAX).filter_map(|jwk| {
                    let kid = jwk.common.key_id.clone()?;
                    DecodingKey::from_jwk(jwk).ok().map(|key| (kid, key))
                });
                *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.collect();
            }
            Err(error) => tracing::warn!(%error, "the coordinator's keys cannot be fetched"),
        }
    }
}
