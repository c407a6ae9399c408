//! The secrets that coordinators with one database share. The database has them, sealed; each coordinator has them in its data folder
//! as well, as one that runs alone does, and whatever reads them there need not know the difference.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::{Any, Transaction};
use thiserror::Error;

use crate::authority::{CA_FILE, CA_KEY_FILE};
use crate::classes::{KEY_FILE, PIN_FILE};
use crate::config::{Config, LINK_FOLDER};
use crate::keys;
use crate::seal::SealKey;
use crate::secret;
use crate::store::{SealedSecret, Store, StoreError, put_secret, remove_secret};

/// The files that stay as they are.
const LASTING: [&str; 4] = ["pin-secret", "node-secret", "operator-secret", "monitor-secret"];
/// Those that operators or the time change: every coordinator then has the new ones.
const CHANGING: [&str; 3] = [KEY_FILE, PIN_FILE, keys::FILE];
/// Where the key is if nothing else is said.
const SEAL_KEY_FILE: &str = "seal-key";
/// The variable that may have the key instead.
const SEAL_KEY_VARIABLE: &str = "LECTERN_SEAL_KEY";

/// Why the secrets of the cluster cannot be had.
#[derive(Debug, Error)]
pub enum SharedError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key is none.
    #[error("the seal key must be 32 bytes in base64, such as `openssl rand -base64 32` makes")]
    Key,
    /// The key is that of something else.
    #[error(
        "the secrets in the database were sealed with another key: give this coordinator the seal key of those that run, \
         as {SEAL_KEY_VARIABLE} or in the file seal-key of the data folder"
    )]
    OtherKey,
    /// This was a coordinator of its own before.
    #[error("{} is not the one of the cluster; move it away, and that is written in its place", .0.display())]
    Differs(PathBuf),
    /// They are something else, though sealed with the right key.
    #[error("the database does not hold signing keys under the name {}", keys::FILE)]
    SigningKeys,
}

/// Held by one coordinator at a time, while it takes over what the others have and adds what they do not have.
pub(crate) struct Agreement {
    transaction: Transaction<'static, Any>,
    seal: SealKey,
    folder: PathBuf,
    known: Vec<SealedSecret>,
}

impl Agreement {
    /// Writes what the database has into the data folder.
    pub(crate) async fn begin(store: &Store, config: &Config) -> Result<Self, SharedError> {
        let folder = config.data_dir.clone();
        let transaction = store.lock_secrets().await?;
        let known = store.secrets().await?;
        let seal = seal_key(config)?;
        let link = folder.join(LINK_FOLDER);
        secret::make_folder(&link).map_err(|error| SharedError::File { path: link, error })?;
        let mut files = Vec::new();
        let has_keys = known.iter().any(|known| known.name == keys::FILE);
        // What was there when there was one key for ever is taken over once.
        let former = Some(keys::FORMER_FILE.to_owned()).filter(|_| !has_keys);
        for name in names().chain(former) {
            let Some(secret) = opened(&seal, &known, &name)? else { continue };
            let path = folder.join(&name);
            let found = read(&path)?;
            if found.as_ref().is_some_and(|found| *found != secret) && !CHANGING.contains(&name.as_str()) {
                return Err(SharedError::Differs(path));
            }
            if found.as_ref() != Some(&secret) {
                files.push((path, secret));
            }
        }
        for (path, secret) in files {
            secret::write(&path, &secret).map_err(|error| SharedError::File { path, error })?;
        }
        Ok(Self { transaction, seal, folder, known })
    }

    /// Gives the database what is in the data folder and was not known.
    pub(crate) async fn end(mut self) -> Result<SealKey, SharedError> {
        for name in names() {
            if self.known.iter().any(|known| known.name == name) {
                continue;
            }
            let path = self.folder.join(&name);
            // One that is set by the configuration has no file.
            let Some(secret) = read(&path)? else { continue };
            let secret = self.seal.seal(&name, &secret);
            let secret = secret.map_err(|error| SharedError::File { path, error })?;
            put_secret(&mut self.transaction, &secret).await?;
        }
        remove_secret(&mut self.transaction, keys::FORMER_FILE).await?;
        self.transaction.commit().await.map_err(StoreError::from)?;
        Ok(self.seal)
    }
}

/// Writes the secrets that another coordinator has changed into the data folder.
pub(crate) fn follow(seal: &SealKey, known: &[SealedSecret], folder: &Path) -> Result<(), SharedError> {
    for name in CHANGING {
        let (path, secret) = (folder.join(name), opened(seal, known, name)?);
        if secret.is_some() && read(&path)? != secret {
            let written = secret::write(&path, &secret.unwrap_or_default());
            written.map_err(|error| SharedError::File { path, error })?;
        }
    }
    Ok(())
}

/// Every file that is shared, below the data folder.
fn names() -> impl Iterator<Item = String> {
    let authority = [CA_FILE, CA_KEY_FILE].map(|file| format!("{LINK_FOLDER}/{file}"));
    LASTING.into_iter().chain(CHANGING).map(str::to_owned).chain(authority)
}

/// What the database has under a name, if it has anything.
pub(crate) fn opened(
    seal: &SealKey,
    known: &[SealedSecret],
    name: &str,
) -> Result<Option<Vec<u8>>, SharedError> {
    let Some(secret) = known.iter().find(|known| known.name == name) else { return Ok(None) };
    seal.open(secret).ok_or(SharedError::OtherKey).map(Some)
}

/// An empty file is none, as for whoever makes secrets.
fn read(path: &Path) -> Result<Option<Vec<u8>>, SharedError> {
    match fs::read(path) {
        Ok(secret) => Ok(Some(secret).filter(|secret| !secret.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SharedError::File { path: path.to_owned(), error }),
    }
}

/// From the environment, or a file, which is made unless there is one.
fn seal_key(config: &Config) -> Result<SealKey, SharedError> {
    let text = match std::env::var(SEAL_KEY_VARIABLE) {
        Ok(text) => text,
        Err(_) => {
            let path = config.seal_key_file.clone().unwrap_or_else(|| config.data_dir.join(SEAL_KEY_FILE));
            let bytes = secret::load_or_make(&path, || SealKey::random_text().map(String::into_bytes));
            let bytes = bytes.map_err(|error| SharedError::File { path, error })?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    SealKey::parse(&text).ok_or(SharedError::Key)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use testkit::Postgres;

    use super::*;
    use crate::keys::{Ring, SigningKey};

    /// A cluster from before there were several keys takes its key over once, and keeps it nowhere under its old name.
    #[tokio::test]
    async fn the_key_that_a_cluster_had_alone_is_the_first_of_its_set() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&Postgres::shared().create_database()).await.unwrap();
        let config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        let key = SigningKey::generate().unwrap();
        let seal = seal_key(&config).unwrap();
        let mut transaction = store.lock_secrets().await.unwrap();
        let former = seal.seal(keys::FORMER_FILE, key.pkcs8()).unwrap();
        put_secret(&mut transaction, &former).await.unwrap();
        transaction.commit().await.unwrap();
        for _ in 0..2 {
            let agreement = Agreement::begin(&store, &config).await.unwrap();
            assert_eq!(keys::load_or_make(folder.path()).unwrap().signing(i64::MAX).kid(), key.kid());
            assert!(!folder.path().join(keys::FORMER_FILE).exists());
            agreement.end().await.unwrap();
            let names: Vec<_> =
                store.secrets().await.unwrap().into_iter().map(|secret| secret.name).collect();
            assert_eq!(names, [keys::FILE]);
        }
        let known = store.secrets().await.unwrap();
        let bytes = opened(&seal, &known, keys::FILE).unwrap().unwrap();
        assert_eq!(Ring::parse(&bytes).unwrap().signing(i64::MAX).kid(), key.kid());
    }
}
