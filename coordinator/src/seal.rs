//! What keeps the secrets that coordinators share from whoever has the database alone: AES-256-GCM under a key that is not in it.
use std::io;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand::fill;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::store::SealedSecret;

/// Bytes of the key.
const KEY_LEN: usize = 32;

/// The key.
pub(crate) struct SealKey(RandomizedNonceKey);

impl SealKey {
    /// From 32 bytes in base64, as `openssl rand -base64 32` makes them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == KEY_LEN)?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok().map(Self)
    }

    /// A new key, as text.
    pub(crate) fn random_text() -> io::Result<String> {
        let mut bytes = [0; KEY_LEN];
        fill(&mut bytes).map_err(io::Error::other)?;
        Ok(STANDARD.encode(bytes))
    }

    /// Seals a secret under its name, so that none passes for another one.
    pub(crate) fn seal(&self, name: &str, secret: &[u8]) -> io::Result<SealedSecret> {
        let mut sealed = secret.to_vec();
        let nonce =
            self.0.seal_in_place_append_tag(Aad::from(name), &mut sealed).map_err(io::Error::other)?;
        let sealed = STANDARD.encode([nonce.as_ref().as_slice(), &sealed].concat());
        Ok(SealedSecret { name: name.to_owned(), sealed })
    }

    /// What was sealed with this key under this name.
    pub(crate) fn open(&self, secret: &SealedSecret) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(&secret.sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut sealed) = (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
        self.0.open_in_place(nonce, Aad::from(&secret.name), &mut sealed).ok().map(|secret| secret.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_with_its_key_and_its_name_and_not_after_a_change() {
        let key = || SealKey::parse(&SealKey::random_text().unwrap()).unwrap();
        let (ours, theirs) = (key(), key());
        let sealed = ours.seal("name", b"secret").unwrap();
        assert_ne!(sealed, ours.seal("name", b"secret").unwrap(), "no nonce is used twice");
        assert_eq!(ours.open(&sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(theirs.open(&sealed), None);
        assert_eq!(ours.open(&SealedSecret { name: "another".to_owned(), ..sealed.clone() }), None);
        let changed = |sealed: String| SealedSecret { name: "name".to_owned(), sealed };
        let mut bytes = STANDARD.decode(&sealed.sealed).unwrap();
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert_eq!(ours.open(&changed(STANDARD.encode(&bytes))), None, "byte {index}");
            bytes[index] ^= 1;
        }
        for text in ["", "AAAA", "no base64"] {
            assert_eq!(ours.open(&changed(text.to_owned())), None, "{text}");
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(SealKey::parse(&format!("{}\n", STANDARD.encode([7; 32]))).is_some());
        for text in [String::new(), STANDARD.encode([7; 31]), STANDARD.encode([7; 33]), "!".repeat(44)] {
            assert!(SealKey::parse(&text).is_none(), "{text}");
        }
    }
}
