//! Tokens: JSON Web Tokens (RFC 7519) signed with EdDSA (RFC 8037), verified without asking anybody.
mod revocations;
mod verifier;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::revocations::{Marks, Revocation, Revocations, Revoked};
pub use self::verifier::TokenVerifier;

/// For how long the published keys may be kept: by nodes, which fetch them anew then, and by whatever else stands between. For so
/// long a key that is withdrawn is trusted, and one that is new may not be known.
pub const KEYS_AGE_MAX: Duration = Duration::from_secs(300);
/// Seconds by which the clocks of a node and of the coordinator may differ.
pub const LEEWAY_SECONDS: u64 = 30;
/// Characters of a token: ours have about 500.
const TOKEN_LEN_MAX: usize = 4096;
/// Keys of one set: the one that signs, the next, those whose tokens are still good, and room.
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
}

impl Role {
    /// The word for it, in tokens and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Teacher => "teacher",
            Self::Monitor => "monitor",
        }
    }
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
    /// The life of the coordinator that issued it, which counts the joins that it handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The node that its holder was sent to. It is good at every other one, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The key that signed it. It stands in the token's head, and is known of those that were verified.
    #[serde(skip)]
    pub kid: String,
}

impl Claims {
    /// The issuer of all our tokens.
    pub const ISSUER: &'static str = "lectern";
    /// The audience of tokens for media.
    pub const AUDIENCE: &'static str = "lectern-media";

    /// By what revocations know the token.
    pub fn marks(&self) -> Marks<'_> {
        Marks { token: &self.jti, kid: &self.kid, class: &self.cls, user: &self.sub, issued_at: self.iat }
    }
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
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// It is for somebody else.
    #[error("the token is for another audience or issuer")]
    Foreign,
    /// It names a key that is not known; the keys may have changed.
    #[error("the token is not valid")]
    UnknownKey,
    /// It names a key that is not known, and the coordinator could not be asked: nobody knows whether it is good.
    #[error("the keys that tokens are verified with cannot be fetched")]
    NoKeys,
}

/// The public keys that tokens are verified with: no network, and no clock of its own.
#[derive(Clone, Default)]
pub struct KeySet(HashMap<String, DecodingKey>);

impl KeySet {
    /// Reads a set of keys as RFC 7517 section 5 writes it. Keys that are not Ed25519 are left out: another algorithm
    /// than ours has no way in.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let set: JwkSet = serde_json::from_slice(json)?;
        let is_ed25519 = |parameters: &AlgorithmParameters| matches!(parameters, AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519);
        let keys = set.keys.iter().filter(|jwk| is_ed25519(&jwk.algorithm)).filter_map(|jwk| {
            let kid = jwk.common.key_id.clone()?;
            DecodingKey::from_jwk(jwk).ok().map(|key| (kid, key))
        });
        Ok(Self(keys.take(KEYS_MAX).collect()))
    }

    /// What a token says, if it is ours and good at `now`.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // RFC 8725 section 3.1: the verifier says which algorithm it is, not the token.
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Invalid);
        }
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let key = self.0.get(&kid).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[Claims::ISSUER]);
        validation.set_audience(&[Claims::AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        // Both would ask the clock of the machine; the claims are held against `now` below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
            ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => TokenError::Foreign,
            _ => TokenError::Invalid,
        })?;
        decoded.claims.check_time(now)?;
        Ok(Claims { kid, ..decoded.claims })
    }

    /// These and others.
    fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

/// The key that a token says to be signed with. Nothing of it is verified.
fn key_of(token: &str) -> Option<String> {
    let is_short = token.len() <= TOKEN_LEN_MAX;
    is_short.then(|| decode_header(token).ok()).flatten().and_then(|header| header.kid)
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Claims {
    /// RFC 7519 sections 4.1.4 and 4.1.5, with a leeway for clocks that differ.
    fn check_time(&self, now: SystemTime) -> Result<(), TokenError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now >= self.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY_SECONDS) < self.nbf {
            return Err(TokenError::Invalid);
        }
        Ok(())
    }
}
