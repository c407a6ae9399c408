//! The keys one after the other, as a machine without a clock: each signs from its time on, until the next one does. All that happens
//! later is known when a key is added, so that a coordinator which is restarted, or cut off from the others, goes on as they do.
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::KEYS_AGE_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::SigningKey;
use crate::classes::ChangeError;
use crate::config::TOKENS_GONE_SECONDS;

/// Milliseconds for which a key is published before it signs: twice what anybody may keep a set of keys for, so that who has fetched
/// one just before fetches another before he meets the key, and has as long again for that.
const LEAD_MS: i64 = 2 * 1000 * KEYS_AGE_MAX.as_secs().cast_signed();
/// Milliseconds after which no token of a key that signs no longer is good.
const GONE_MS: i64 = 1000 * TOKENS_GONE_SECONDS.cast_signed();
/// Keys at once: as many as are made in a day by somebody who makes one every two hours; nodes take twice as many.
const KEYS_MAX: usize = 16;

/// What a key does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is published and signs later.
    Next,
    /// It signs.
    Signing,
    /// It signs no longer, and tokens that it has signed may still be good.
    Retiring,
}

/// The keys, by the times from which they sign. There is always one.
#[derive(Clone)]
pub(crate) struct Ring(Vec<Entry>);

#[derive(Clone)]
struct Entry {
    key: Arc<SigningKey>,
    signs_from_ms: i64,
}

/// As the file has them.
#[derive(Serialize, Deserialize)]
struct File {
    keys: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    signs_from_ms: i64,
    pkcs8: String,
}

impl Ring {
    /// One key, which signs at once.
    pub(crate) fn new(key: SigningKey, now_ms: i64) -> Self {
        Self(vec![Entry { key: Arc::new(key), signs_from_ms: now_ms }])
    }

    /// From a file, if it holds any keys.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(bytes).ok()?;
        let entry = |Line { signs_from_ms, pkcs8 }: Line| {
            let key = SigningKey::from_pkcs8(STANDARD.decode(pkcs8).ok()?)?;
            Some(Entry { key: Arc::new(key), signs_from_ms })
        };
        let mut entries: Vec<_> = file.keys.into_iter().map(entry).collect::<Option<_>>()?;
        entries.sort_by_key(|entry| entry.signs_from_ms);
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// For a file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let line = |Entry { key, signs_from_ms }: &Entry| Line {
            signs_from_ms: *signs_from_ms,
            pkcs8: STANDARD.encode(key.pkcs8()),
        };
        let file = File { keys: self.0.iter().map(line).collect() };
        serde_json::to_vec(&file).expect("numbers and texts can be written")
    }

    /// The key that signs: the last one whose time has come. If the clock was set back before all of them, the first.
    pub(crate) fn signing(&self, now_ms: i64) -> &SigningKey {
        &self.0[self.signing_at(now_ms)].key
    }

    fn signing_at(&self, now_ms: i64) -> usize {
        self.0.iter().rposition(|entry| entry.signs_from_ms <= now_ms).unwrap_or(0)
    }

    /// The keys that tokens may be signed with which are good now or soon, what each does, and since or from when it signs.
    pub(crate) fn published(&self, now_ms: i64) -> impl Iterator<Item = (&SigningKey, Standing, i64)> {
        let signing = self.signing_at(now_ms);
        let standing = move |at: usize| match at.cmp(&signing) {
            std::cmp::Ordering::Less => Standing::Retiring,
            std::cmp::Ordering::Equal => Standing::Signing,
            std::cmp::Ordering::Greater => Standing::Next,
        };
        let entries = self.0.iter().enumerate().filter(move |(at, _)| !self.is_gone(*at, now_ms));
        entries.map(move |(at, entry)| (&*entry.key, standing(at), entry.signs_from_ms))
    }

    /// Whether no token of a key is good any longer.
    fn is_gone(&self, at: usize, now_ms: i64) -> bool {
        let successor = self.0.get(at + 1);
        successor.is_some_and(|successor| successor.signs_from_ms.saturating_add(GONE_MS) <= now_ms)
    }

    /// The public halves of those, as RFC 7517 writes them.
    pub(crate) fn published_set(&self, now_ms: i64) -> Value {
        json!({ "keys": self.published(now_ms).map(|(key, ..)| key.jwk()).collect::<Vec<_>>() })
    }

    /// The public halves of all.
    pub(crate) fn set(&self) -> Value {
        json!({ "keys": self.0.iter().map(|entry| entry.key.jwk()).collect::<Vec<_>>() })
    }

    /// Whether the newest key has signed for this long.
    pub(crate) fn is_older(&self, age_max_ms: i64, now_ms: i64) -> bool {
        self.0.iter().all(|entry| entry.signs_from_ms.saturating_add(age_max_ms) <= now_ms)
    }

    /// Adds the next key.
    pub(crate) fn rotate(&mut self, key: SigningKey, now_ms: i64) -> Result<(), ChangeError> {
        self.forget(now_ms);
        if self.0.iter().any(|entry| entry.signs_from_ms > now_ms) {
            return Err(ChangeError::RotationUnderWay);
        }
        if self.0.len() >= KEYS_MAX {
            return Err(ChangeError::Full(KEYS_MAX));
        }
        self.0.push(Entry { key: Arc::new(key), signs_from_ms: now_ms.saturating_add(LEAD_MS) });
        Ok(())
    }

    /// Takes a key out. If it signs, the next one does so from now on, or this spare one if there is none.
    pub(crate) fn revoke(&mut self, kid: &str, spare: SigningKey, now_ms: i64) -> Result<(), ChangeError> {
        self.forget(now_ms);
        let signing = self.signing_at(now_ms);
        let at = self.0.iter().position(|entry| entry.key.kid() == kid).ok_or(ChangeError::NoSigningKey)?;
        self.0.remove(at);
        if at != signing {
            return Ok(());
        }
        match self.0.get_mut(at) {
            Some(next) => next.signs_from_ms = now_ms,
            None => self.0.push(Entry { key: Arc::new(spare), signs_from_ms: now_ms }),
        }
        Ok(())
    }

    /// Forgets the keys of which no token is good any longer.
    fn forget(&mut self, now_ms: i64) {
        let gone = (0..self.0.len()).take_while(|at| self.is_gone(*at, now_ms)).count();
        self.0.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const DAY: i64 = 86_400_000;

    fn key() -> SigningKey {
        SigningKey::generate().unwrap()
    }

    fn ring() -> Ring {
        Ring::new(key(), NOW)
    }

    /// The ids of those that are published and what they do, the oldest first.
    fn published(ring: &Ring, now_ms: i64) -> Vec<(String, Standing)> {
        ring.published(now_ms).map(|(key, standing, _)| (key.kid().to_owned(), standing)).collect()
    }

    fn rotated() -> (Ring, String, String) {
        let (mut ring, next) = (ring(), key());
        let (first, second) = (ring.signing(NOW).kid().to_owned(), next.kid().to_owned());
        ring.rotate(next, NOW).unwrap();
        (ring, first, second)
    }

    #[test]
    fn the_next_key_is_published_for_two_lives_of_a_cache_before_it_signs() {
        let (ring, first, second) = rotated();
        let sign_at = NOW + 600_000;
        let both = |a, b| vec![(first.clone(), a), (second.clone(), b)];
        for before in [NOW, sign_at - 1] {
            assert_eq!(ring.signing(before).kid(), first);
            assert_eq!(published(&ring, before), both(Standing::Signing, Standing::Next));
        }
        assert_eq!(ring.signing(sign_at).kid(), second);
        assert_eq!(published(&ring, sign_at), both(Standing::Retiring, Standing::Signing));
    }

    #[test]
    fn a_key_stays_published_until_no_token_of_it_is_good() {
        let (mut ring, _, second) = rotated();
        let sign_at = NOW + LEAD_MS;
        // The longest life of a token, the leeway of nodes, and as much for the clocks of coordinators.
        let gone = sign_at + DAY + 60_000;
        assert_eq!(published(&ring, gone - 1).len(), 2);
        assert_eq!(published(&ring, gone), [(second.clone(), Standing::Signing)]);
        assert_eq!(ring.set()["keys"].as_array().unwrap().len(), 2);
        ring.rotate(key(), gone).unwrap();
        assert_eq!(ring.0[0].key.kid(), second, "nor is it kept any longer");
    }

    #[test]
    fn one_key_at_a_time_is_the_next_and_there_are_not_more_and_more() {
        let (mut ring, ..) = rotated();
        assert!(matches!(ring.rotate(key(), NOW + LEAD_MS - 1), Err(ChangeError::RotationUnderWay)));
        let mut now = NOW;
        for _ in 2..KEYS_MAX {
            now += LEAD_MS;
            ring.rotate(key(), now).unwrap();
        }
        now += LEAD_MS;
        assert!(matches!(ring.rotate(key(), now), Err(ChangeError::Full(KEYS_MAX))));
        assert_eq!(published(&ring, now).len(), KEYS_MAX);
        ring.rotate(key(), NOW + LEAD_MS + GONE_MS).unwrap();
    }

    #[test]
    fn a_key_is_old_when_it_has_signed_for_so_long_and_not_while_the_next_one_waits() {
        let (waiting, ..) = rotated();
        assert!(!ring().is_older(DAY, NOW + DAY - 1) && ring().is_older(DAY, NOW + DAY));
        assert!(!waiting.is_older(DAY, NOW + DAY), "the newest counts from when it signs");
        assert!(waiting.is_older(DAY, NOW + LEAD_MS + DAY));
    }

    #[test]
    fn what_is_withdrawn_signs_no_longer_and_something_else_does() {
        let (mut ring, first, second) = rotated();
        ring.revoke(&first, key(), NOW + 1).unwrap();
        assert_eq!(published(&ring, NOW + 1), [(second.clone(), Standing::Signing)], "the next one, at once");
        let spare = key();
        let third = spare.kid().to_owned();
        ring.revoke(&second, spare, NOW + 2).unwrap();
        assert_eq!(
            published(&ring, NOW + 2),
            [(third.clone(), Standing::Signing)],
            "a new one, if none waits"
        );
        assert!(matches!(ring.revoke(&second, key(), NOW + 3), Err(ChangeError::NoSigningKey)));
        let next = key();
        let fourth = next.kid().to_owned();
        ring.rotate(next, NOW + 4).unwrap();
        ring.revoke(&fourth, key(), NOW + 5).unwrap();
        assert_eq!(published(&ring, NOW + 5), [(third.clone(), Standing::Signing)], "who waits goes unseen");
        let next = key();
        let fifth = next.kid().to_owned();
        ring.rotate(next, NOW + 6).unwrap();
        ring.revoke(&third, key(), NOW + 6 + LEAD_MS).unwrap();
        assert_eq!(published(&ring, NOW + 6 + LEAD_MS), [(fifth, Standing::Signing)], "one that retires");
    }

    #[test]
    fn a_file_holds_all_of_it_and_only_that_is_taken_for_one() {
        let (ring, ..) = rotated();
        let read = Ring::parse(&ring.to_bytes()).unwrap();
        for now in [NOW, NOW + LEAD_MS] {
            assert_eq!(published(&read, now), published(&ring, now));
        }
        let token = |ring: &Ring| ring.signing(NOW).jwk();
        assert_eq!(token(&read), token(&ring));
        for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"signs_from_ms":0,"pkcs8":"AAAA"}]}"#] {
            assert!(Ring::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_a_key_that_signs() {
        let (ring, first, _) = rotated();
        assert_eq!(ring.signing(0).kid(), first);
        assert_eq!(published(&ring, 0).len(), 2);
    }
}
