//! What a node proves itself with: its name and its public address, under a seal that only coordinators can make. Nothing is stored,
//! so that every coordinator of a cluster knows every node.
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// What the seal is for: nothing else that is made with the same secret can pass for it.
const PURPOSE: &[u8] = b"lectern node\0";
/// Characters of a credential: a name and a URL.
const LEN_MAX: usize = 4096;

/// A node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Its name.
    pub name: String,
    /// Where browsers reach its WHEP server, if that cannot be derived from the address that it has.
    pub public_url: Option<String>,
}

impl NodeIdentity {
    /// What it proves that with, to whoever has the same secret.
    pub fn credential(&self, secret: &str) -> String {
        let claims = serde_json::to_vec(self).unwrap_or_default();
        let seal = hmac::sign(&key(secret), &[PURPOSE, &claims].concat());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&claims), URL_SAFE_NO_PAD.encode(seal))
    }
}

/// Whose credential this is, if it is one of ours.
pub(crate) fn verify(secret: &str, credential: &str) -> Option<NodeIdentity> {
    let (claims, seal) = credential.split_once('.').filter(|_| credential.len() <= LEN_MAX)?;
    let (claims, seal) = (URL_SAFE_NO_PAD.decode(claims).ok()?, URL_SAFE_NO_PAD.decode(seal).ok()?);
    hmac::verify(&key(secret), &[PURPOSE, &claims].concat(), &seal).ok()?;
    serde_json::from_slice(&claims).ok()
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_for_one_name_and_one_address_and_nobody_else_makes_it() {
        let identity =
            NodeIdentity { name: "a".to_owned(), public_url: Some("https://a.example".to_owned()) };
        let credential = identity.credential("secret");
        assert_eq!(verify("secret", &credential), Some(identity.clone()));
        assert_eq!(verify("another", &credential), None);
        let other = NodeIdentity { name: "b".to_owned(), ..identity }.credential("another");
        let (claims, _) = other.split_once('.').unwrap();
        let (_, seal) = credential.split_once('.').unwrap();
        for forged in [format!("{claims}.{seal}"), format!("{credential}x"), String::new(), ".".to_owned()] {
            assert_eq!(verify("secret", &forged), None, "{forged}");
        }
    }
}
