//! The database: classes, keys, and the record of who published and who watched.
mod sessions;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor, Row};
use thiserror::Error;

pub(crate) use self::sessions::NODE_LOST;
use crate::secret;

/// Connections at once. SQLite writes one at a time anyway.
const CONNECTIONS_MAX: u32 = 4;
/// Characters of a stream key: 32 letters, 120 bits.
const KEY_LEN: usize = 24;
/// Characters of ids.
const ID_LEN: usize = 20;
/// Characters of a class's name in addresses.
const SLUG_LEN_MAX: usize = 64;

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
}

/// A class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its id, which never changes.
    pub id: String,
    /// Its name in addresses.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// The hash of its PIN, if it has one.
    pub pin_hash: Option<String>,
}

impl Class {
    /// The other name of the default class: the seed addresses say `live/stream`.
    pub const DEFAULT_ALIAS: &'static str = "stream";

    /// Whether a class may have this name in addresses.
    pub fn is_slug(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=SLUG_LEN_MAX).contains(&text.len())
            && text.bytes().all(is_allowed)
            && text != Self::DEFAULT_ALIAS
    }
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

    /// Whether the database answers.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// The class with this name in addresses.
    pub async fn class(&self, slug: &str) -> Result<Option<Class>, StoreError> {
        let query = sqlx::query("SELECT id, slug, name, pin_hash FROM classes WHERE slug = $1").bind(slug);
        let row = query.fetch_optional(&self.pool).await?;
        row.map(|row| class_of(&row)).transpose()
    }

    /// All classes by name.
    pub async fn classes(&self) -> Result<Vec<Class>, StoreError> {
        let rows =
            sqlx::query("SELECT id, slug, name, pin_hash FROM classes ORDER BY slug").fetch_all(&self.pool);
        rows.await?.iter().map(class_of).collect()
    }

    /// Adds a class.
    pub async fn add_class(
        &self,
        slug: &str,
        name: &str,
        pin: &str,
        now_ms: i64,
    ) -> Result<Class, StoreError> {
        let class = Class {
            id: secret::random_text(ID_LEN),
            slug: slug.to_owned(),
            name: name.to_owned(),
            pin_hash: Some(secret::hash(pin)),
        };
        let query = "INSERT INTO classes (id, slug, name, pin_hash, created_at) VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(query).bind(&class.id).bind(&class.slug).bind(&class.name);
        let outcome = query.bind(class.pin_hash.clone()).bind(now_ms).execute(&self.pool).await;
        match outcome {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(StoreError::Exists),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(class),
        }
    }

    /// Adds a stream key and returns its secret, which is shown this once.
    pub async fn add_stream_key(&self, class: &Class, now_ms: i64) -> Result<String, StoreError> {
        let key = secret::random_text(KEY_LEN);
        self.put_stream_key(class, &key, now_ms).await?;
        Ok(key)
    }

    /// Makes this the PIN of a class.
    pub async fn put_pin(&self, class: &Class, pin: &str) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE classes SET pin_hash = $1 WHERE id = $2");
        query.bind(secret::hash(pin)).bind(&class.id).execute(&self.pool).await?;
        Ok(())
    }

    /// Makes this a key of this class, and of no other.
    pub async fn put_stream_key(&self, class: &Class, key: &str, now_ms: i64) -> Result<(), StoreError> {
        let query = "INSERT INTO stream_keys (id, class_id, secret_hash, created_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (secret_hash) DO UPDATE SET class_id = excluded.class_id";
        let query = sqlx::query(query).bind(secret::random_text(ID_LEN)).bind(&class.id);
        query.bind(secret::hash(key)).bind(now_ms).execute(&self.pool).await?;
        Ok(())
    }

    /// The class that a stream key belongs to.
    pub async fn class_of_key(&self, key: &str) -> Result<Option<Class>, StoreError> {
        let query =
            "SELECT c.id, c.slug, c.name, c.pin_hash FROM stream_keys k JOIN classes c ON c.id = k.class_id
            WHERE k.secret_hash = $1 AND k.revoked_at IS NULL";
        let row = sqlx::query(query).bind(secret::hash(key)).fetch_optional(&self.pool).await?;
        row.map(|row| class_of(&row)).transpose()
    }
}

fn class_of(row: &sqlx::any::AnyRow) -> Result<Class, StoreError> {
    Ok(Class { id: row.try_get(0)?, slug: row.try_get(1)?, name: row.try_get(2)?, pin_hash: row.try_get(3)? })
}
