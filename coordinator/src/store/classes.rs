//! `classes` and `stream_keys`. They are read when the process begins, and when another coordinator has changed them.
use sqlx::Row;

use super::secrets::{self, SealedSecret};
use super::{Store, StoreError, without_zero};
use crate::secret;

/// Characters of a class's name in addresses.
const SLUG_LEN_MAX: usize = 64;

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
    /// Whether a class may have this name in addresses.
    pub fn is_slug(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=SLUG_LEN_MAX).contains(&text.len())
            && text.bytes().all(is_allowed)
            && text != control::DEFAULT_CLASS_ALIAS
    }
}

/// A stream key that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) id: String,
    pub(crate) class_id: String,
    pub(crate) hash: String,
    pub(crate) created_at_ms: i64,
}

impl StreamKey {
    /// A key with this secret, of which only the hash is kept.
    pub(crate) fn new(class_id: &str, key: &str, now_ms: i64) -> Self {
        let hash = secret::hash(key);
        Self { id: secret::random_id(), class_id: class_id.to_owned(), hash, created_at_ms: now_ms }
    }
}

const INSERT_KEY: &str =
    "INSERT INTO stream_keys (id, class_id, secret_hash, created_at) VALUES ($1, $2, $3, $4)";

impl Store {
    /// The classes that are not removed, by name.
    pub(crate) async fn classes(&self) -> Result<Vec<Class>, StoreError> {
        let query = "SELECT id, slug, name, pin_hash FROM classes WHERE removed_at IS NULL ORDER BY slug";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        let class_of = |row: &sqlx::any::AnyRow| {
            Ok(Class {
                id: row.try_get(0)?,
                slug: row.try_get(1)?,
                name: row.try_get(2)?,
                pin_hash: row.try_get(3)?,
            })
        };
        rows.iter().map(class_of).collect()
    }

    /// The keys that are not revoked.
    pub(crate) async fn stream_keys(&self) -> Result<Vec<StreamKey>, StoreError> {
        let query = "SELECT id, class_id, secret_hash, created_at FROM stream_keys WHERE revoked_at IS NULL";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        let key_of = |row: &sqlx::any::AnyRow| {
            Ok(StreamKey {
                id: row.try_get(0)?,
                class_id: row.try_get(1)?,
                hash: row.try_get(2)?,
                created_at_ms: row.try_get(3)?,
            })
        };
        rows.iter().map(key_of).collect()
    }

    /// The keys that were revoked last, by their ids, the last one at the end.
    pub(crate) async fn revoked_stream_keys(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let query =
            "SELECT id FROM stream_keys WHERE revoked_at IS NOT NULL ORDER BY revoked_at DESC, id LIMIT $1";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query(query).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().rev().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Adds a class together with its first key, or neither.
    pub(crate) async fn add_class(
        &self,
        class: &Class,
        key: Option<&StreamKey>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.lasting.begin().await?;
        let query = "INSERT INTO classes (id, slug, name, pin_hash, created_at) VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(query).bind(&class.id).bind(&class.slug).bind(without_zero(&class.name));
        match query.bind(class.pin_hash.clone()).bind(now_ms).execute(&mut *transaction).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(StoreError::Exists);
            }
            outcome => outcome?,
        };
        if let Some(key) = key {
            let query = sqlx::query(INSERT_KEY).bind(&key.id).bind(&key.class_id).bind(&key.hash);
            query.bind(key.created_at_ms).execute(&mut *transaction).await?;
        }
        self.commit_change(transaction).await
    }

    /// Removes a class and revokes its keys. What was recorded of its lessons stays.
    pub(crate) async fn remove_class(&self, class: &Class, now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.lasting.begin().await?;
        let query = "UPDATE stream_keys SET revoked_at = $1 WHERE class_id = $2 AND revoked_at IS NULL";
        sqlx::query(query).bind(now_ms).bind(&class.id).execute(&mut *transaction).await?;
        // No slug has a tilde, so this one is nobody's.
        let slug = format!("{}~{}", class.slug, class.id);
        let query = "UPDATE classes SET removed_at = $1, slug = $2, pin_hash = NULL WHERE id = $3";
        sqlx::query(query).bind(now_ms).bind(slug).bind(&class.id).execute(&mut *transaction).await?;
        self.commit_change(transaction).await
    }

    /// Makes this the hash of a class's PIN, and `shown` the PIN that people are shown.
    pub(crate) async fn put_pin(
        &self,
        class_id: &str,
        pin_hash: &str,
        shown: Option<&SealedSecret>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.lasting.begin().await?;
        let query = "UPDATE classes SET pin_hash = $1 WHERE id = $2";
        sqlx::query(query).bind(pin_hash).bind(class_id).execute(&mut *transaction).await?;
        if let Some(shown) = shown {
            secrets::put(&mut transaction, shown).await?;
        }
        self.commit_change(transaction).await
    }

    /// Adds a key.
    pub(crate) async fn add_stream_key(&self, key: &StreamKey) -> Result<(), StoreError> {
        let mut transaction = self.lasting.begin().await?;
        let query = sqlx::query(INSERT_KEY).bind(&key.id).bind(&key.class_id).bind(&key.hash);
        query.bind(key.created_at_ms).execute(&mut *transaction).await?;
        self.commit_change(transaction).await
    }

    /// Revokes a key.
    pub(crate) async fn revoke_stream_key(&self, id: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.lasting.begin().await?;
        let query = "UPDATE stream_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
        sqlx::query(query).bind(now_ms).bind(id).execute(&mut *transaction).await?;
        self.commit_change(transaction).await
    }

    /// Makes this the key of the file `stream-key`, which belongs to this class; the one that the file held before is
    /// revoked. Returns false, and changes nothing, if this key was revoked: a file that comes back does not revive it.
    pub(crate) async fn put_file_key(
        &self,
        key: &StreamKey,
        shown: Option<&SealedSecret>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.lasting.begin().await?;
        let query = "SELECT COUNT(*) FROM stream_keys WHERE secret_hash = $1 AND revoked_at IS NOT NULL";
        let row = sqlx::query(query).bind(&key.hash).fetch_one(&mut *transaction).await?;
        if row.try_get::<i64, _>(0)? > 0 {
            return Ok(false);
        }
        let query = "UPDATE stream_keys SET revoked_at = $1
            WHERE is_from_file = 1 AND secret_hash <> $2 AND revoked_at IS NULL";
        sqlx::query(query).bind(now_ms).bind(&key.hash).execute(&mut *transaction).await?;
        let query = "INSERT INTO stream_keys (id, class_id, secret_hash, created_at, is_from_file)
            VALUES ($1, $2, $3, $4, 1)
            ON CONFLICT (secret_hash) DO UPDATE SET class_id = excluded.class_id, is_from_file = 1";
        let query = sqlx::query(query).bind(&key.id).bind(&key.class_id).bind(&key.hash);
        query.bind(key.created_at_ms).execute(&mut *transaction).await?;
        if let Some(shown) = shown {
            secrets::put(&mut transaction, shown).await?;
        }
        self.commit_change(transaction).await?;
        Ok(true)
    }

    /// Whether a key is the one of the file `stream-key`.
    pub(crate) async fn is_file_key(&self, id: &str) -> Result<bool, StoreError> {
        let query = "SELECT COUNT(*) FROM stream_keys WHERE id = $1 AND is_from_file = 1";
        let row = sqlx::query(query).bind(id).fetch_one(&self.lasting).await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }
}
