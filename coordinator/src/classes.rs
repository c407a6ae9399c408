//! What operators do with classes, and what everybody asks of them. Questions are answered from memory; a change is
//! written first, so that what an operator was told outlives the process.
mod keys;
mod reload;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;

use crate::app::now_ms;
use crate::directory::{CLASSES_MAX, Directory, KEYS_PER_CLASS_MAX, REVOKED_KEYS_MAX};
use crate::guesses::Guesses;
use crate::pins::{self, Pins};
use crate::seal::SealKey;
use crate::secret;
use crate::shared::SharedError;
use crate::store::{Class, Store, StoreError, StreamKey};

/// The file with the stream key of the default class, and the one with its PIN.
pub(crate) const KEY_FILE: &str = "stream-key";
pub(crate) const PIN_FILE: &str = "class-pin";

/// Characters of a stream key that somebody chose. It is kept as a plain hash, and nothing but its length holds up whoever
/// tries keys.
pub(crate) const STREAM_KEY_LEN_MIN: usize = 16;

/// How long a change waits for others: with the 3 s for a connection and the 5 s that the database waits for a lock, its
/// answer comes before whoever asked for it is told that the request took too long.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(3);

/// Why a change was not made.
#[derive(Debug, Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Store(StoreError),
    #[error("a file of the data folder cannot be written: {0}")]
    File(#[from] io::Error),
    #[error("there is already a class with this slug")]
    Exists,
    #[error("there is no such class")]
    NoClass,
    #[error("the class has no such stream key")]
    NoKey,
    #[error("no signing key that is published has this id")]
    NoSigningKey,
    #[error("the next signing key is published already; it begins to sign before another one can be made")]
    RotationUnderWay,
    /// What the coordinators share cannot be read or written.
    #[error(transparent)]
    Shared(#[from] SharedError),
    #[error("the default class cannot be removed; name another one as [coordinator] default_class first")]
    IsDefault,
    #[error("there are already {0} of them")]
    Full(usize),
    /// The PIN of the file cannot be chosen.
    #[error("the PIN must have 6 to 64 printable ASCII characters without spaces")]
    Pin,
    /// The key of the file could be guessed.
    #[error("the stream key must have at least {STREAM_KEY_LEN_MIN} characters")]
    Key,
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists => Self::Exists,
            error => Self::Store(error),
        }
    }
}

/// A key that was made. Its secret is told this once.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// The classes of this process. Others may change them only if the database is shared; then this one hears of it.
pub(crate) struct Classes {
    store: Store,
    /// What seals the key and the PIN that people are shown, for the other coordinators.
    seal: Option<Arc<SealKey>>,
    pub(crate) pins: Pins,
    folder: PathBuf,
    default_slug: String,
    directory: RwLock<Directory>,
    guesses: std::sync::Mutex<Guesses>,
    /// Held for one change, across its writes: memory and database take changes in the same order.
    changes: Mutex<()>,
}

impl Classes {
    /// Reads what the database has, and makes sure that there is a default class with the key and the PIN of the files.
    pub(crate) async fn open(
        (store, seal): (Store, Option<Arc<SealKey>>),
        pins: Pins,
        folder: PathBuf,
        default_slug: String,
        default: &mut DefaultSecrets,
    ) -> Result<Self, ChangeError> {
        let opening = Self {
            store,
            seal,
            pins,
            folder,
            default_slug,
            directory: RwLock::default(),
            guesses: std::sync::Mutex::default(),
            changes: Mutex::default(),
        };
        opening.migrate_pins().await?;
        opening.store_default(default).await?;
        let (classes, keys) = (opening.store.classes().await?, opening.store.stream_keys().await?);
        let revoked = opening.store.revoked_stream_keys(REVOKED_KEYS_MAX.get()).await?;
        *opening.write() = Directory::new(classes, keys, revoked);
        Ok(opening)
    }

    /// Plain hashes of PINs are replaced at once, and not when somebody enters the PIN.
    async fn migrate_pins(&self) -> Result<(), ChangeError> {
        for class in self.store.classes().await? {
            if let Some(hash) = self.pins.migrate(&class) {
                self.store.put_pin(&class.id, &hash, None).await?;
            }
        }
        Ok(())
    }

    /// The key and the PIN that people are shown are the default class's own: also after another class was made the
    /// default, and after a file was replaced, which ends what the file held before.
    async fn store_default(&self, default: &mut DefaultSecrets) -> Result<(), ChangeError> {
        let now_ms = now_ms();
        let found = self.store.classes().await?.into_iter().find(|class| class.slug == self.default_slug);
        if default.stream_key.chars().count() < STREAM_KEY_LEN_MIN {
            return Err(ChangeError::Key);
        }
        // A shorter one may have been chosen when that was allowed.
        if !pins::is_allowed(&default.pin) && !self.pins.is_right(found.as_ref(), &default.pin) {
            return Err(ChangeError::Pin);
        }
        let class = match found {
            Some(class) => class,
            None => {
                let class = self.new_class(&self.default_slug, "Lesson", &default.pin);
                self.store.add_class(&class, None, now_ms).await?;
                class
            }
        };
        self.store.put_pin(&class.id, &self.pins.hash(&class.id, &default.pin), None).await?;
        let key = StreamKey::new(&class.id, &default.stream_key, now_ms);
        if !self.store.put_file_key(&key, None, now_ms).await? {
            tracing::warn!("the key in the file {KEY_FILE} was revoked; the file has a new one now");
            default.stream_key = secret::random_stream_key();
            self.write_file(KEY_FILE, default.stream_key.clone().into()).await?;
            let (key, shown) = (
                StreamKey::new(&class.id, &default.stream_key, now_ms),
                self.sealed(KEY_FILE, &default.stream_key)?,
            );
            self.store.put_file_key(&key, shown.as_ref(), now_ms).await?;
        }
        Ok(())
    }

    fn new_class(&self, slug: &str, name: &str, pin: &str) -> Class {
        let id = secret::random_id();
        let pin_hash = Some(self.pins.hash(&id, pin));
        Class { id, slug: slug.to_owned(), name: name.to_owned(), pin_hash }
    }

    fn read(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wrong and the right PINs that were tried.
    pub(crate) fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, ChangeError> {
        let begun = tokio::time::timeout(CHANGE_WAIT, self.changes.lock()).await;
        begun.map_err(|_| ChangeError::Store(StoreError::Timeout))
    }

    /// The name under which a class is known.
    pub(crate) fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        if name == control::DEFAULT_CLASS_ALIAS { &self.default_slug } else { name }
    }

    /// The class that is meant when none is named.
    pub(crate) fn default_slug(&self) -> &str {
        &self.default_slug
    }

    /// The class of this name, or of this other name.
    pub(crate) fn class(&self, name: &str) -> Option<Class> {
        self.read().class(self.canonical(name)).cloned()
    }

    /// All classes by name.
    pub(crate) fn all(&self) -> Vec<Class> {
        self.read().classes().cloned().collect()
    }

    /// The class that a stream key belongs to, and the key's id.
    pub(crate) fn class_of_key(&self, key: &str) -> Option<(Class, String)> {
        self.read().class_of_key(key).map(|(class, id)| (class.clone(), id.to_owned()))
    }

    /// Of these keys those that were revoked, by their ids.
    pub(crate) fn revoked_of(&self, mut ids: Vec<String>) -> Vec<String> {
        let directory = self.read();
        ids.retain(|id| directory.is_revoked(id));
        ids
    }

    /// The valid keys of a class: their ids, and when they were made in milliseconds since 1970.
    pub(crate) fn keys(&self, name: &str) -> Result<(Class, Vec<(String, i64)>), ChangeError> {
        let class = self.class(name).ok_or(ChangeError::NoClass)?;
        let keys =
            self.read().keys(&class.id).into_iter().map(|key| (key.id.clone(), key.created_at_ms)).collect();
        Ok((class, keys))
    }

    /// Adds a class with a key.
    pub(crate) async fn add(
        &self,
        slug: &str,
        name: &str,
        pin: &str,
    ) -> Result<(Class, NewKey), ChangeError> {
        let _change = self.begin_change().await?;
        if self.read().classes().len() >= CLASSES_MAX {
            return Err(ChangeError::Full(CLASSES_MAX));
        }
        let (class, secret) = (self.new_class(slug, name, pin), secret::random_stream_key());
        let key = StreamKey::new(&class.id, &secret, now_ms());
        self.store.add_class(&class, Some(&key), key.created_at_ms).await?;
        let made = NewKey { id: key.id.clone(), secret };
        let mut directory = self.write();
        directory.put_class(class.clone());
        directory.put_key(key);
        Ok((class, made))
    }

    /// Removes a class. Its keys and its PIN are void, and whoever publishes with one of them is sent away; tokens that were given
    /// stay good until they expire or are revoked.
    pub(crate) async fn remove(&self, name: &str) -> Result<Class, ChangeError> {
        let _change = self.begin_change().await?;
        let class = self.class(name).ok_or(ChangeError::NoClass)?;
        if class.slug == self.default_slug {
            return Err(ChangeError::IsDefault);
        }
        self.store.remove_class(&class, now_ms()).await?;
        self.write().remove_class(&class);
        self.guesses().on_new_pin(&class.id);
        Ok(class)
    }

    /// Gives a class another PIN. That of the default class is written into its file as well.
    pub(crate) async fn set_pin(&self, name: &str, pin: &str) -> Result<Class, ChangeError> {
        let _change = self.begin_change().await?;
        let class = self.class(name).ok_or(ChangeError::NoClass)?;
        let class = Class { pin_hash: Some(self.pins.hash(&class.id, pin)), ..class };
        let hash = class.pin_hash.as_deref().unwrap_or_default();
        if class.slug == self.default_slug {
            let shown = self.sealed(PIN_FILE, pin)?;
            self.write_file_and(PIN_FILE, pin, self.store.put_pin(&class.id, hash, shown.as_ref())).await?;
        } else {
            self.store.put_pin(&class.id, hash, None).await?;
        }
        self.write().put_class(class.clone());
        self.guesses().on_new_pin(&class.id);
        Ok(class)
    }

    /// Writes a file that people are shown, and then what the database has of it; both or none. The file comes first: it is
    /// what counts at the next start, so that a loss of power in between leaves a change that was made.
    async fn write_file_and<T>(
        &self,
        name: &str,
        text: &str,
        stored: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ChangeError> {
        let path = self.folder.join(name);
        let before = match fs::read(&path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let outcome = match self.write_file(name, text.into()).await {
            Ok(()) => stored.await.map_err(ChangeError::from),
            Err(error) => Err(error),
        };
        // A file that could not be written may have been replaced all the same, only not for good.
        if outcome.is_err() && fs::read(&path).ok() != before {
            let restored = match before {
                Some(before) => self.write_file(name, before).await,
                None => fs::remove_file(&path).map_err(ChangeError::from),
            };
            if let Err(error) = restored {
                tracing::error!(%error, "a change was not made, but will be at the next start: it is in the file {name}");
            }
        }
        outcome
    }

    async fn write_file(&self, name: &str, bytes: Vec<u8>) -> Result<(), ChangeError> {
        let path = self.folder.join(name);
        let written = tokio::task::spawn_blocking(move || secret::write(&path, &bytes));
        Ok(written.await.map_err(io::Error::other)??)
    }

    pub(crate) async fn close(&self) {
        self.store.close().await;
    }
}

/// The key and the PIN of the files.
pub(crate) struct DefaultSecrets {
    pub(crate) stream_key: String,
    pub(crate) pin: String,
}

impl DefaultSecrets {
    /// From the files, or new.
    pub(crate) fn load_or_make(folder: &std::path::Path) -> io::Result<Self> {
        let stream_key = secret::load_or_make_text(&folder.join(KEY_FILE), secret::random_stream_key)?;
        let pin = secret::load_or_make_text(&folder.join(PIN_FILE), pins::random)?;
        Ok(Self { stream_key, pin })
    }
}
