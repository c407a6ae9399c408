//! The database: classes, keys, and the record of who published and who watched.
mod classes;
mod hearings;
mod notices;
mod revocations;
mod secrets;
mod sessions;
#[cfg(test)]
mod tests;
mod viewers;

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Executor};
use thiserror::Error;

pub use self::classes::Class;
pub(crate) use self::classes::StreamKey;
pub(crate) use self::notices::Notices;
pub(crate) use self::revocations::put as put_revocation;
pub(crate) use self::secrets::{SealedSecret, put as put_secret, remove as remove_secret};
pub(crate) use self::sessions::EndReason;
pub use self::sessions::{Epoch, EpochRow, Opening};

/// Connections at once. SQLite writes one at a time anyway.
const CONNECTIONS_MAX: u32 = 4;
/// How long a change waits for the connection that makes changes: they come one after the other, so it is a file that is opened,
/// or a server that answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

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
    /// It is neither of those that can be used.
    #[error("the URL is not that of an SQLite or PostgreSQL database")]
    Unknown,
    /// The connection on which it tells of changes was lost.
    #[error("the connection to the database was lost")]
    Lost,
    /// It takes too long.
    #[error("the database did not answer in time")]
    Timeout,
}

impl StoreError {
    /// Whether the database refuses just this, and would again: a reference to what is no more, or a number that is too large.
    pub(crate) fn is_final(&self) -> bool {
        const NUMERIC_VALUE_OUT_OF_RANGE: &str = "22003";
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_foreign_key_violation() || error.code().as_deref() == Some(NUMERIC_VALUE_OUT_OF_RANGE)
    }
}

/// The database; clones share its connections.
#[derive(Clone)]
pub struct Store {
    kind: Kind,
    /// For the record of sessions, whose last second may be lost with the power.
    pool: AnyPool,
    /// For classes and keys: what it has written outlives a loss of power, so that a key that was revoked stays so.
    lasting: AnyPool,
    /// Where coordinators that share it hear of each other's changes.
    notices: Option<PgConnectOptions>,
}

impl fmt::Debug for Store {
    /// Without where it is: that may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Which database it is. Both take the same statements; how a connection is set up, and how it is seen to write, is each one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Store {
    /// Whether this is the URL of a database that can be used.
    pub fn is_url(url: &str) -> bool {
        kind(url).is_some()
    }

    /// Opens a database by its URL and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let kind = kind(url).ok_or(StoreError::Unknown)?;
        // A pool would try for half a minute, and then say no more than that it took so long.
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, AnyConnection::connect(url)).await;
        let mut first = connecting.map_err(|_| StoreError::Timeout)??;
        if kind == Kind::Sqlite {
            // Not before this does it read the file.
            first.execute("PRAGMA schema_version").await?;
        }
        first.close().await?;
        let pool = options(kind, "NORMAL").max_connections(CONNECTIONS_MAX).connect(url).await?;
        // Of several coordinators that begin at once, PostgreSQL lets one do this at a time.
        sqlx::migrate!("./migrations").run(&pool).await?;
        // Opened when there is something to change, which is seldom.
        let lasting =
            options(kind, "FULL").max_connections(1).acquire_timeout(CONNECT_TIMEOUT).connect_lazy(url)?;
        let notices = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(url.parse()?),
        };
        Ok(Self { kind, pool, lasting, notices })
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
        self.lasting.close().await;
        self.pool.close().await;
    }

    /// Has the database write something, which changes nothing: one page of SQLite's log, that of a number which nobody reads, or a
    /// message in PostgreSQL's log. Taking a lock alone would not show a full disk.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let query = match self.kind {
            Kind::Sqlite => "PRAGMA user_version = 0",
            Kind::Postgres => "SELECT CAST(pg_logical_emit_message(TRUE, 'lectern', '') AS TEXT)",
        };
        sqlx::query(query).execute(&self.pool).await?;
        Ok(())
    }
}

fn kind(url: &str) -> Option<Kind> {
    match url.split_once(':')? {
        ("sqlite", _) => Some(Kind::Sqlite),
        ("postgres" | "postgresql", rest) if rest.starts_with("//") => Some(Kind::Postgres),
        _ => None,
    }
}

/// Text as both databases take it: PostgreSQL refuses zero bytes, and whoever publishes may call his encoder anything.
fn without_zero(text: &str) -> String {
    text.replace('\0', "")
}

/// A number as both databases take it.
fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Connections that write their commits to the disk at once. With `synchronous` at `NORMAL`, SQLite does so with the next
/// checkpoint; PostgreSQL always does, for the commits of a moment cost it one write.
fn options(kind: Kind, synchronous: &'static str) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().after_release(|connection, _| {
        Box::pin(async move {
            // What was left of a transaction is rolled back first. SQLite ends one by itself when the disk is full, of which the
            // driver does not learn: it would nest the next ones in it for ever, and keep the lock.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    });
    match kind {
        Kind::Sqlite => options.after_connect(move |connection, _| {
            Box::pin(async move {
                // A write-ahead log survives a kill, and readers do not wait for writers.
                connection.execute("PRAGMA journal_mode = WAL").await?;
                let synchronous = format!("PRAGMA synchronous = {synchronous}");
                connection.execute(AssertSqlSafe(synchronous)).await?;
                connection.execute("PRAGMA busy_timeout = 5000").await?;
                connection.execute("PRAGMA foreign_keys = ON").await?;
                Ok(())
            })
        }),
        Kind::Postgres => options.acquire_timeout(CONNECT_TIMEOUT).after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute("SET lock_timeout = '5s'").await?;
                connection.execute("SET statement_timeout = '10s'").await?;
                // A coordinator whose network is gone in the middle of something keeps its locks no longer.
                connection.execute("SET idle_in_transaction_session_timeout = '10s'").await?;
                Ok(())
            })
        }),
    }
}
