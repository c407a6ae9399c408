//! One key that signs tokens.
use std::io;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::Claims;
use serde_json::{Value, json};

use crate::secret;

/// Characters of a key's id.
const KID_LEN: usize = 16;

/// An Ed25519 key, as the pair that it is: making a pair of its bytes costs as much as a signature.
pub(crate) struct SigningKey {
    kid: String,
    /// The first part of every token (RFC 7515, section 3.1), which is always the same.
    header: String,
    pair: Ed25519KeyPair,
    public: String,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// A new one.
    pub(crate) fn generate() -> io::Result<Self> {
        let pair = Ed25519KeyPair::generate().map_err(io::Error::other)?;
        let document = pair.to_pkcs8v1().map_err(io::Error::other)?;
        Self::from_pkcs8(document.as_ref().to_vec()).ok_or_else(|| io::Error::other("a key was just made"))
    }

    /// From its bytes, if they are one.
    pub(crate) fn from_pkcs8(pkcs8: Vec<u8>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).ok()?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let kid: String = secret::hash(&public).chars().take(KID_LEN).collect();
        let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": kid });
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Some(Self { kid, header, pair, public, pkcs8 })
    }

    /// Its id.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Its bytes.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Signs a token (RFC 7515, section 7.1; RFC 8037, section 3.1).
    pub(crate) fn sign(&self, claims: &Claims) -> serde_json::Result<String> {
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
        let mut token = format!("{}.{claims}", self.header);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// The public half, as RFC 7517 and RFC 8037 write it.
    pub(crate) fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": self.public })
    }
}
