//! The key that signs tokens, and the set that others verify them with.
use std::io;
use std::path::Path;

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
}

impl SigningKey {
    /// From a file, or new. Tokens outlive the process, so their key must too.
    pub(crate) fn load_or_make(path: &Path) -> io::Result<Self> {
        let pkcs8 = secret::load_or_make(path, || {
            let pair = Ed25519KeyPair::generate().map_err(io::Error::other)?;
            let document = pair.to_pkcs8v1().map_err(io::Error::other)?;
            Ok(document.as_ref().to_vec())
        })?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
            .map_err(|_| io::Error::other(format!("{} does not hold an Ed25519 key", path.display())))?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let kid: String = secret::hash(&public).chars().take(KID_LEN).collect();
        let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": kid });
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Ok(Self { kid, header, pair, public })
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
    pub(crate) fn jwks(&self) -> Value {
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": self.public,
        }] })
    }
}
