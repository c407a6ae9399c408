//! The keys that sign tokens, and the set that others verify them with: in a file of the data folder, and where coordinators share a
//! database, sealed in that.
mod ring;
mod signing;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use control::{Claims, KeySet, Revocation, Revocations, TokenError};
use serde_json::Value;
use tokio::sync::Mutex;

pub(crate) use self::ring::{Ring, Standing};
pub(crate) use self::signing::SigningKey;
use crate::app::now_ms;
use crate::classes::{CHANGE_WAIT, ChangeError};
use crate::seal::SealKey;
use crate::secret;
use crate::shared::{self, SharedError};
use crate::store::{SealedSecret, Store, StoreError, put_revocation, put_secret};

/// The file in the data folder, and the name of the secret.
pub(crate) const FILE: &str = "signing-keys.json";
/// Where the key was when there was only one for ever.
pub(crate) const FORMER_FILE: &str = "signing-key.pkcs8";
/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// The keys from the data folder, or a new one. Tokens outlive the process, so their keys must too.
pub(crate) fn load_or_make(folder: &Path) -> io::Result<Ring> {
    let (path, former) = (folder.join(FILE), folder.join(FORMER_FILE));
    let bytes = secret::load_or_make(&path, || {
        let key = match fs::read(&former) {
            Ok(pkcs8) if !pkcs8.is_empty() => SigningKey::from_pkcs8(pkcs8).ok_or_else(|| {
                io::Error::other(format!("{} does not hold an Ed25519 key", former.display()))
            }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => SigningKey::generate(),
        };
        Ok(Ring::new(key?, now_ms()).to_bytes())
    })?;
    let ring = Ring::parse(&bytes)
        .ok_or_else(|| io::Error::other(format!("{} does not hold signing keys", path.display())))?;
    // A key that is withdrawn one day must not come back with it.
    match fs::remove_file(&former) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(ring),
    }
}

/// The keys as a coordinator has them.
pub(crate) struct Keys {
    store: Store,
    seal: Option<Arc<SealKey>>,
    folder: PathBuf,
    known: RwLock<Arc<Known>>,
    /// Held for one change, across its writes.
    changes: Mutex<()>,
}

struct Known {
    ring: Ring,
    /// The public halves of all of them.
    set: KeySet,
}

impl Known {
    fn of(ring: Ring) -> Arc<Self> {
        let set = KeySet::parse(ring.set().to_string().as_bytes()).expect("the set was just written");
        Arc::new(Self { ring, set })
    }
}

impl Keys {
    pub(crate) fn new(store: Store, seal: Option<Arc<SealKey>>, folder: PathBuf, ring: Ring) -> Self {
        Self { store, seal, folder, known: RwLock::new(Known::of(ring)), changes: Mutex::default() }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn know(&self, ring: Ring) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known::of(ring);
    }

    /// Signs a token with the key whose time it is.
    pub(crate) fn sign(&self, claims: &Claims) -> serde_json::Result<String> {
        self.known().ring.signing(now_ms()).sign(claims)
    }

    /// What a token says, if it is good and not revoked.
    pub(crate) fn verify(&self, token: &str, revocations: &Revocations) -> Result<Claims, TokenError> {
        revocations.verify(&self.known().set, token, SystemTime::now())
    }

    /// The public halves of those that are published now, as RFC 7517 and RFC 8037 write them.
    pub(crate) fn jwks(&self) -> Value {
        self.known().ring.published_set(now_ms())
    }

    /// Those that are published now: their ids, what they do, and since or from when they sign, in milliseconds since 1970.
    pub(crate) fn published(&self) -> Vec<(String, Standing, i64)> {
        let known = self.known();
        let published = known.ring.published(now_ms());
        published.map(|(key, standing, from_ms)| (key.kid().to_owned(), standing, from_ms)).collect()
    }

    /// Publishes the next key, which signs when everybody has had the time to hear of it.
    pub(crate) async fn rotate(&self) -> Result<(), ChangeError> {
        let next = SigningKey::generate()?;
        self.change(None, |ring, now_ms| ring.rotate(next, now_ms).map(|()| true)).await
    }

    /// Does so if the newest is this old.
    pub(crate) async fn rotate_if_older(&self, days: u32) -> Result<(), ChangeError> {
        let age_max_ms = i64::from(days).saturating_mul(DAY_MS);
        if !self.known().ring.is_older(age_max_ms, now_ms()) {
            return Ok(());
        }
        let next = SigningKey::generate()?;
        // Another coordinator may have done it by now.
        let rotate = |ring: &mut Ring, now_ms| {
            let is_due = ring.is_older(age_max_ms, now_ms);
            if is_due { ring.rotate(next, now_ms).map(|()| true) } else { Ok(false) }
        };
        self.change(None, rotate).await
    }

    /// Withdraws a key, together with what says that its tokens are void. If it signs, another one does so from now on.
    pub(crate) async fn revoke(&self, kid: &str, revocation: &Revocation) -> Result<(), ChangeError> {
        let spare = SigningKey::generate()?;
        self.change(Some(revocation), |ring, now_ms| ring.revoke(kid, spare, now_ms).map(|()| true)).await
    }

    /// Withdraws a key whose tokens are void already.
    pub(crate) async fn withdraw(&self, kid: &str) -> Result<(), ChangeError> {
        let spare = SigningKey::generate()?;
        match self.change(None, |ring, now_ms| ring.revoke(kid, spare, now_ms).map(|()| true)).await {
            // Another coordinator has done it by now.
            Err(ChangeError::NoSigningKey) => Ok(self.reload().await?),
            withdrawn => withdrawn,
        }
    }

    /// Makes a change everywhere or nowhere, and knows what there is then. `act` says whether there is one to be made.
    async fn change(
        &self,
        revocation: Option<&Revocation>,
        act: impl FnOnce(&mut Ring, i64) -> Result<bool, ChangeError>,
    ) -> Result<(), ChangeError> {
        let begun = tokio::time::timeout(CHANGE_WAIT, self.changes.lock()).await;
        let _change = begun.map_err(|_| ChangeError::Store(StoreError::Timeout))?;
        let now_ms = now_ms();
        let ring = match &self.seal {
            Some(seal) => self.change_shared(seal, revocation, |ring| act(ring, now_ms)).await?,
            None => self.change_own(revocation, now_ms, |ring| act(ring, now_ms)).await?,
        };
        self.know(ring);
        Ok(())
    }

    /// One coordinator at a time changes what all of them have.
    async fn change_shared(
        &self,
        seal: &SealKey,
        revocation: Option<&Revocation>,
        act: impl FnOnce(&mut Ring) -> Result<bool, ChangeError>,
    ) -> Result<Ring, ChangeError> {
        let mut transaction = self.store.lock_secrets().await?;
        let known = self.store.secrets().await?;
        let mut ring = read(seal, &known)?.unwrap_or_else(|| self.known().ring.clone());
        if !act(&mut ring)? {
            return Ok(ring);
        }
        let bytes = ring.to_bytes();
        put_secret(&mut transaction, &seal.seal(FILE, &bytes)?).await?;
        if let Some(revocation) = revocation {
            put_revocation(&mut transaction, revocation).await?;
        }
        self.store.commit_change(transaction).await?;
        if let Err(error) = self.write_file(bytes).await {
            // It is made, and each coordinator writes the file when it hears of it; this one too.
            tracing::error!(%error, "the signing keys in the data folder are not those of the cluster");
        }
        Ok(ring)
    }

    /// A revocation comes first: a key whose tokens are void, and that the file still has, is withdrawn at the next start.
    async fn change_own(
        &self,
        revocation: Option<&Revocation>,
        now_ms: i64,
        act: impl FnOnce(&mut Ring) -> Result<bool, ChangeError>,
    ) -> Result<Ring, ChangeError> {
        let mut ring = self.known().ring.clone();
        if !act(&mut ring)? {
            return Ok(ring);
        }
        if let Some(revocation) = revocation {
            let now = u64::try_from(now_ms / 1000).unwrap_or(0);
            self.store.add_revocation(revocation, now).await?;
        }
        self.write_file(ring.to_bytes()).await?;
        Ok(ring)
    }

    async fn write_file(&self, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.folder.join(FILE);
        let written = tokio::task::spawn_blocking(move || secret::write(&path, &bytes));
        written.await.map_err(io::Error::other)?
    }

    /// Takes over what another coordinator has changed. The file follows with those of classes.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let Some(seal) = &self.seal else { return Ok(()) };
        let _change = self.changes.lock().await;
        match read(seal, &self.store.secrets().await?) {
            Ok(Some(ring)) => self.know(ring),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the signing keys of the cluster cannot be read"),
        }
        Ok(())
    }
}

/// What the database has.
fn read(seal: &SealKey, known: &[SealedSecret]) -> Result<Option<Ring>, ChangeError> {
    let Some(bytes) = shared::opened(seal, known, FILE)? else { return Ok(None) };
    Ok(Some(Ring::parse(&bytes).ok_or(SharedError::SigningKeys)?))
}
