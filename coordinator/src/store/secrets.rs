//! `secrets`: what coordinators share, sealed. Only PostgreSQL is shared.
use sqlx::{Any, Row, Transaction};

use super::{Store, StoreError};

/// A secret that only who has the seal key can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedSecret {
    pub(crate) name: String,
    pub(crate) sealed: String,
}

impl Store {
    /// Lets nobody else change secrets until the transaction ends.
    pub(crate) async fn lock_secrets(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("LOCK TABLE secrets IN EXCLUSIVE MODE").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// All of them. Who holds the lock sees them as they stay.
    pub(crate) async fn secrets(&self) -> Result<Vec<SealedSecret>, StoreError> {
        let rows = sqlx::query("SELECT name, sealed FROM secrets").fetch_all(&self.pool).await?;
        let secret_of =
            |row: &sqlx::any::AnyRow| Ok(SealedSecret { name: row.try_get(0)?, sealed: row.try_get(1)? });
        rows.iter().map(secret_of).collect()
    }
}

/// Puts one in the place of what had its name.
pub(crate) async fn put(
    transaction: &mut Transaction<'_, Any>,
    secret: &SealedSecret,
) -> Result<(), StoreError> {
    let query = "INSERT INTO secrets (name, sealed) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed";
    sqlx::query(query).bind(&secret.name).bind(&secret.sealed).execute(&mut **transaction).await?;
    Ok(())
}

/// Removes one, if it is there.
pub(crate) async fn remove(transaction: &mut Transaction<'_, Any>, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM secrets WHERE name = $1").bind(name).execute(&mut **transaction).await?;
    Ok(())
}
