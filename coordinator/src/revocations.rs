//! Tokens that are void before they expire. Questions are answered from memory; a revocation is written first.
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use control::{Claims, LEEWAY_SECONDS, Revocation, Revoked, TokenError};
use tokio::sync::Mutex;

use crate::app::now_seconds;
use crate::classes::{CHANGE_WAIT, ChangeError};
use crate::config::TOKENS_GONE_SECONDS;
use crate::keys::Keys;
use crate::store::{Store, StoreError};

/// Revocations at once, about 200 kB in the answer to a node that has none of them. Each is over after a day; whoever has more users to
/// send away than that revokes their class.
const REVOCATIONS_MAX: usize = 1000;
/// Further ones, of classes alone, and of signing keys: whoever has used up the others can still do that.
const CLASS_REVOCATIONS_MAX: usize = 100;
const KEY_REVOCATIONS_MAX: usize = 24;

/// What is revoked, as a coordinator knows it.
pub(crate) struct Revocations {
    store: Store,
    known: RwLock<Arc<Known>>,
    /// Held for one change, across its write: so that there are not more than there may be.
    changes: Mutex<()>,
    max: usize,
}

#[derive(Default)]
struct Known {
    revocations: control::Revocations,
    list: Vec<Revocation>,
    /// Another number for another list; 0 for none.
    version: u64,
}

impl Known {
    fn of(revocations: control::Revocations) -> Arc<Self> {
        let list = revocations.list();
        let version = if list.is_empty() { 0 } else { hash(&list).max(1) };
        Arc::new(Self { revocations, list, version })
    }
}

/// Of what it says and not of how it came, so that a coordinator that was restarted has the version that nodes know.
fn hash(list: &[Revocation]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for Revocation { of, issued_until, good_until } in list {
        (of, issued_until, good_until).hash(&mut hasher);
    }
    hasher.finish()
}

impl Revocations {
    /// Reads what the database has.
    pub(crate) async fn open(store: Store) -> Result<Self, StoreError> {
        let opening =
            Self { store, known: RwLock::default(), changes: Mutex::default(), max: REVOCATIONS_MAX };
        opening.reload().await?;
        Ok(opening)
    }

    fn read(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds to what is known. Nothing is ever taken back, so that it does not matter in what order it comes.
    fn know(&self, more: &[Revocation]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut revocations = known.revocations.clone();
        let mut is_new = false;
        for revocation in more {
            is_new |= revocations.add(revocation);
        }
        if is_new {
            *known = Known::of(revocations);
        }
    }

    /// What a token says, if it is good and not revoked.
    pub(crate) fn verify(&self, keys: &Keys, token: &str) -> Result<Claims, TokenError> {
        keys.verify(token, &self.read().revocations)
    }

    /// All of it, in its order.
    pub(crate) fn list(&self) -> Vec<Revocation> {
        self.read().list.clone()
    }

    /// The version, and all of it for who has another one.
    pub(crate) fn news(&self, version: u64) -> (u64, Option<Vec<Revocation>>) {
        let known = self.read();
        (known.version, (known.version != version).then(|| known.list.clone()))
    }

    /// When a token is issued that is given now: after those that are void.
    pub(crate) fn issued_at(&self, now: u64, class: &str, user: &str) -> u64 {
        self.read().revocations.issued_at(now, class, user)
    }

    /// Revokes tokens: those of a class or a user that were issued until now.
    pub(crate) async fn add(&self, of: Revoked, keys: &Keys) -> Result<Revocation, ChangeError> {
        let begun = tokio::time::timeout(CHANGE_WAIT, self.changes.lock()).await;
        let _change = begun.map_err(|_| ChangeError::Store(StoreError::Timeout))?;
        let (now, known) = (now_seconds(), self.read());
        // Those too that were given by another clock, which is ahead. What is given from now on is issued after that.
        let issued_until = known.revocations.last_issued_at(now + LEEWAY_SECONDS, &of);
        let revocation = Revocation { of, issued_until, good_until: now + TOKENS_GONE_SECONDS };
        let further = match revocation.of {
            Revoked::Token { .. } | Revoked::User { .. } => 0,
            Revoked::Class { .. } => CLASS_REVOCATIONS_MAX,
            Revoked::Key { .. } => CLASS_REVOCATIONS_MAX + KEY_REVOCATIONS_MAX,
        };
        let max = self.max + further;
        if known.list.len() >= max && !known.revocations.contains(&revocation.of) {
            return Err(ChangeError::Full(max));
        }
        match &revocation.of {
            // Together with its withdrawal: it must not go on signing.
            Revoked::Key { kid } => match keys.revoke(kid, &revocation).await {
                // Somebody has done it, who may never have heard so.
                Err(ChangeError::NoSigningKey) if self.has_revoked(&revocation.of).await? => {}
                revoked => revoked?,
            },
            _ => self.store.add_revocation(&revocation, now).await?,
        }
        self.know(std::slice::from_ref(&revocation));
        Ok(revocation)
    }

    /// Whether the database has such a one.
    async fn has_revoked(&self, of: &Revoked) -> Result<bool, StoreError> {
        self.reload().await?;
        Ok(self.read().revocations.contains(of))
    }

    /// Withdraws the keys that are revoked and published all the same: from a backup, or a database that was set back.
    pub(crate) async fn withdraw_keys(&self, keys: &Keys) -> Result<(), ChangeError> {
        for (kid, ..) in keys.published() {
            if self.read().revocations.contains(&Revoked::Key { kid: kid.clone() }) {
                tracing::warn!(kid, "a signing key that is revoked is withdrawn anew");
                keys.withdraw(&kid).await?;
            }
        }
        Ok(())
    }

    /// Reads what other coordinators have revoked.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let revocations = self.store.revocations(now_seconds()).await?;
        self.know(&revocations);
        Ok(())
    }

    /// Forgets what is over, here and in the database.
    pub(crate) async fn forget(&self, now: u64) -> Result<(), StoreError> {
        let is_over = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let mut revocations = known.revocations.clone();
            let is_over = revocations.forget(now);
            if is_over {
                *known = Known::of(revocations);
            }
            is_over
        };
        if is_over { self.store.drop_revocations(now).await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::keys::{Ring, SigningKey};

    fn of_class(class: &str) -> Revoked {
        Revoked::Class { class: class.to_owned() }
    }

    async fn open(folder: &TempDir, max: usize) -> (Revocations, Keys) {
        let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
        let ring = Ring::new(SigningKey::generate().unwrap(), 0);
        let keys = Keys::new(store.clone(), None, folder.path().to_owned(), ring);
        (Revocations { max, ..Revocations::open(store).await.unwrap() }, keys)
    }

    #[tokio::test]
    async fn a_node_is_told_all_of_it_when_it_has_another_version_and_nothing_otherwise() {
        let folder = TempDir::new().unwrap();
        let (revocations, keys) = open(&folder, 10).await;
        assert_eq!(revocations.news(0), (0, None), "nothing is revoked");
        let first = revocations.add(of_class("room"), &keys).await.unwrap();
        let (version, list) = revocations.news(0);
        assert_eq!((list, revocations.news(version)), (Some(vec![first.clone()]), (version, None)));
        let second = revocations.add(of_class("hall"), &keys).await.unwrap();
        let (next, list) = revocations.news(version);
        assert_eq!(list, Some(vec![second, first.clone()]));
        assert!(next != version && next != 0);
        let (again, _) = open(&folder, 10).await;
        assert_eq!(again.news(next), (next, None), "after a restart nothing is sent anew");
        again.forget(first.good_until).await.unwrap();
        assert_eq!(again.news(next), (0, Some(vec![])), "what is over");
        assert_eq!(open(&folder, 10).await.0.list(), []);
    }

    #[tokio::test]
    async fn there_are_not_more_than_there_may_be_and_a_key_can_be_revoked_all_the_same() {
        let folder = TempDir::new().unwrap();
        let (revocations, keys) = open(&folder, 2).await;
        let of_user = |user: &str| Revoked::User { user: user.to_owned(), class: "room".to_owned() };
        for user in ["a", "b", "a", "b"] {
            revocations.add(of_user(user), &keys).await.unwrap();
        }
        let refused = revocations.add(of_user("c"), &keys).await;
        assert!(matches!(refused, Err(ChangeError::Full(2))), "{refused:?}");
        revocations.add(of_class("room"), &keys).await.unwrap();
        let of = Revoked::Key { kid: keys.published()[0].0.clone() };
        revocations.add(of.clone(), &keys).await.unwrap();
        assert_ne!(of, Revoked::Key { kid: keys.published()[0].0.clone() }, "another one signs");
        revocations.add(of, &keys).await.expect("nobody may have heard that it is done");
        assert_eq!(revocations.list().len(), 4);
        let unknown = revocations.add(Revoked::Key { kid: "unknown".to_owned() }, &keys).await;
        assert!(matches!(unknown, Err(ChangeError::NoSigningKey)), "{unknown:?}");
    }

    #[tokio::test]
    async fn a_revoked_key_that_a_backup_brings_back_is_withdrawn() {
        let folder = TempDir::new().unwrap();
        let (revocations, keys) = open(&folder, 10).await;
        let backup = keys.published()[0].0.clone();
        let before = std::fs::read(folder.path().join("signing-keys.json")).ok();
        revocations.withdraw_keys(&keys).await.unwrap();
        assert_eq!(keys.published()[0].0, backup, "nothing is revoked");
        let now = now_seconds();
        let of = Revoked::Key { kid: backup.clone() };
        let row = Revocation { of, issued_until: now, good_until: now + 100 };
        revocations.store.add_revocation(&row, now).await.unwrap();
        revocations.reload().await.unwrap();
        revocations.withdraw_keys(&keys).await.unwrap();
        assert_ne!(keys.published()[0].0, backup);
        assert_ne!(
            std::fs::read(folder.path().join("signing-keys.json")).ok(),
            before,
            "nor after a restart"
        );
    }

    #[tokio::test]
    async fn what_is_given_after_a_revocation_is_good_whatever_the_clocks_say() {
        let folder = TempDir::new().unwrap();
        let (revocations, keys) = open(&folder, 10).await;
        let revoked = revocations.add(of_class("room"), &keys).await.unwrap();
        let now = revoked.issued_until;
        assert!(
            now >= now_seconds() + LEEWAY_SECONDS - 1,
            "also what another coordinator gave, whose clock is ahead"
        );
        for (class, at, expected) in [
            ("room", now, now + 1),
            ("room", now - 20, now + 1),
            ("room", now + 5, now + 5),
            ("hall", now, now),
        ] {
            assert_eq!(revocations.issued_at(at, class, "ada"), expected, "{class} {at}");
        }
    }
}
