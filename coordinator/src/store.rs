//! The database: classes, keys, and the record of who published and who watched.
mod classes;
mod sessions;
mod viewers;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Executor};
use thiserror::Error;

pub use self::classes::Class;
pub(crate) use self::classes::StreamKey;
pub(crate) use self::sessions::{EndReason, Epoch, Opening};

/// Connections at once. SQLite writes one at a time anyway.
const CONNECTIONS_MAX: u32 = 4;
/// How long a change waits for the connection that makes changes: they come one after the other, so it is a file that is opened.
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
    /// It takes too long.
    #[error("the database did not answer in time")]
    Timeout,
}

/// The database; clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    /// For the record of sessions, whose last second may be lost with the power.
    pool: AnyPool,
    /// For classes and keys: what it has written outlives a loss of power, so that a key that was revoked stays so.
    lasting: AnyPool,
}

impl Store {
    /// Opens a database by its URL and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        // A pool would try for half a minute, and then say no more than that it took so long.
        let mut first = AnyConnection::connect(url).await?;
        first.execute("PRAGMA schema_version").await?;
        first.close().await?;
        let pool = options("NORMAL").max_connections(CONNECTIONS_MAX).connect(url).await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        // Opened when there is something to change, which is seldom.
        let lasting =
            options("FULL").max_connections(1).acquire_timeout(CONNECT_TIMEOUT).connect_lazy(url)?;
        Ok(Self { pool, lasting })
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

    /// Has the database write something, which changes nothing: one page of its log, that of a number which nobody reads.
    /// Taking the lock alone would not show a full disk.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA user_version = 0").execute(&self.pool).await?;
        Ok(())
    }
}

/// Connections that write their commits to the disk at once (`FULL`) or with the next checkpoint (`NORMAL`).
fn options(synchronous: &'static str) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().after_release(|connection, _| {
        Box::pin(async move {
            // What was left of a transaction is rolled back first. SQLite ends one by itself when the disk is full, of which the
            // driver does not learn: it would nest the next ones in it for ever, and keep the lock.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    });
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            // A write-ahead log survives a kill, and readers do not wait for writers.
            connection.execute("PRAGMA journal_mode = WAL").await?;
            let synchronous = format!("PRAGMA synchronous = {synchronous}");
            connection.execute(AssertSqlSafe(synchronous)).await?;
            connection.execute("PRAGMA busy_timeout = 5000").await?;
            connection.execute("PRAGMA foreign_keys = ON").await?;
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn a_full_disk_leaves_no_lock_behind() {
        let folder = TempDir::new().unwrap();
        let url = Store::sqlite_url(folder.path());
        sqlx::any::install_default_drivers();
        let other = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        let pool = options("NORMAL").max_connections(1).connect(&url).await.unwrap();
        pool.execute("CREATE TABLE large (content BLOB)").await.unwrap();
        // No room for another page.
        pool.execute("PRAGMA max_page_count = 1").await.unwrap();
        let mut transaction = pool.begin().await.unwrap();
        let full = transaction.execute("INSERT INTO large VALUES (zeroblob(1000000))").await.unwrap_err();
        assert!(full.to_string().contains("full"), "{full}");
        drop(transaction);
        // Another one that does not come to its end.
        let mut transaction = pool.begin().await.unwrap();
        transaction.execute("INSERT INTO large VALUES ('small')").await.unwrap();
        drop(transaction);
        pool.execute("SELECT 1").await.unwrap();
        other.execute("PRAGMA busy_timeout = 0").await.unwrap();
        other.execute("INSERT INTO large VALUES ('other')").await.expect("nobody holds the lock");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_told_at_once() {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("lectern.db"), "no database at all, but long enough".repeat(100))
            .unwrap();
        let url = Store::sqlite_url(folder.path());
        let opening = Store::open(&url);
        // The pool's own patience is 30 s.
        let outcome = tokio::time::timeout(Duration::from_secs(20), opening).await.expect("it does not wait");
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("not a database"), "{error}");
    }

    #[tokio::test]
    async fn classes_and_keys_are_written_to_the_disk_at_once_and_the_record_is_not() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
        let mode =
            async |pool| sqlx::query_scalar::<_, i64>("PRAGMA synchronous").fetch_one(pool).await.unwrap();
        assert_eq!((mode(&store.lasting).await, mode(&store.pool).await), (2, 1), "FULL and NORMAL");
        let (id, slug) = ("id".to_owned(), "room".to_owned());
        let class = Class { id, name: slug.clone(), slug, pin_hash: None };
        let key = StreamKey::new(&class.id, "key", 0);
        store.lasting.close().await;
        for outcome in [
            store.add_class(&class, None, 0).await,
            store.remove_class(&class, 0).await,
            store.put_pin("id", "hash").await,
            store.add_stream_key(&key).await,
            store.revoke_stream_key(&key.id, 0).await,
            store.put_file_key(&key, 0).await.map(drop),
        ] {
            assert!(matches!(outcome, Err(StoreError::Database(sqlx::Error::PoolClosed))), "{outcome:?}");
        }
        store.record(&[]).await.unwrap();
        store.check().await.unwrap();
    }
}
