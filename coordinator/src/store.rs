//! The database: classes, keys, and the record of who published and who watched.
mod classes;
mod sessions;
mod viewers;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor};
use thiserror::Error;

pub use self::classes::Class;
pub(crate) use self::classes::StreamKey;
pub(crate) use self::sessions::{EndReason, Opening};

/// Connections at once. SQLite writes one at a time anyway.
const CONNECTIONS_MAX: u32 = 4;

/// Why the database did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Its tables cannot be brought to the version that this program needs.
    #[error("the database cannot be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// There is one with that name.
    #[error("there is already a class with that name")]
    Exists,
    /// It takes too long.
    #[error("the database did not answer in time")]
    Timeout,
}

/// The database; clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
}

impl Store {
    /// Opens a database by its URL and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let options =
            AnyPoolOptions::new().max_connections(CONNECTIONS_MAX).after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        // A write-ahead log survives a kill, and readers do not wait for writers.
                        connection.execute("PRAGMA journal_mode = WAL").await?;
                        connection.execute("PRAGMA synchronous = NORMAL").await?;
                        connection.execute("PRAGMA busy_timeout = 5000").await?;
                        connection.execute("PRAGMA foreign_keys = ON").await?;
                    }
                    Ok(())
                })
            });
        let pool = options.connect(url).await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        Ok(Self { pool })
    }

    /// The URL of the SQLite database in a folder.
    pub fn sqlite_url(folder: &Path) -> String {
        let mut url = "sqlite:".to_owned();
        for &byte in folder.join("lectern.db").as_os_str().as_bytes() {
            // RFC 3986 section 2.3: everything else could mean something else, "?" and "%" above all.
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
        url + "?mode=rwc"
    }

    /// Closes the connections; SQLite then folds its log into the database.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Has the database write something, which changes nothing: one page of its log, that of a number which nobody reads.
    /// Taking the lock alone would not show a full disk.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA user_version = 0").execute(&self.pool).await?;
        Ok(())
    }
}
