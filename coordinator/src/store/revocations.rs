//! `revocations`: tokens that are void before they expire.
use control::{Revocation, Revoked};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{Store, StoreError, clamp};

impl Store {
    /// Those that are not over at `now`, in seconds since 1970.
    pub(crate) async fn revocations(&self, now: u64) -> Result<Vec<Revocation>, StoreError> {
        let query =
            "SELECT kind, class, subject, issued_until, good_until FROM revocations WHERE good_until > $1";
        let rows = sqlx::query(query).bind(clamp(now)).fetch_all(&self.pool).await?;
        rows.iter().filter_map(|row| revocation_of(row).transpose()).collect()
    }

    /// Adds one, and drops those that are over at `now`.
    pub(crate) async fn add_revocation(&self, revocation: &Revocation, now: u64) -> Result<(), StoreError> {
        let mut transaction = self.lasting.begin().await?;
        sqlx::query(DROP_OVER).bind(clamp(now)).execute(&mut *transaction).await?;
        put(&mut transaction, revocation).await?;
        self.commit_change(transaction).await
    }

    /// Drops those that are over at `now`.
    pub(crate) async fn drop_revocations(&self, now: u64) -> Result<(), StoreError> {
        sqlx::query(DROP_OVER).bind(clamp(now)).execute(&self.pool).await?;
        Ok(())
    }
}

const DROP_OVER: &str = "DELETE FROM revocations WHERE good_until <= $1";

/// Adds one, or makes the one that is there later.
pub(crate) async fn put(
    transaction: &mut Transaction<'_, Any>,
    revocation: &Revocation,
) -> Result<(), StoreError> {
    let (kind, class, subject) = match &revocation.of {
        Revoked::Token { token } => ("token", "", token.as_str()),
        Revoked::User { user, class } => ("user", class.as_str(), user.as_str()),
        Revoked::Class { class } => ("class", class.as_str(), ""),
        Revoked::Key { kid } => ("key", "", kid.as_str()),
    };
    // Of two at once the later one counts, whichever is written last.
    let query =
        "INSERT INTO revocations (kind, class, subject, issued_until, good_until) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (kind, class, subject) DO UPDATE SET
        issued_until = CASE WHEN excluded.issued_until > revocations.issued_until
            THEN excluded.issued_until ELSE revocations.issued_until END,
        good_until = CASE WHEN excluded.good_until > revocations.good_until
            THEN excluded.good_until ELSE revocations.good_until END";
    let query = sqlx::query(query).bind(kind).bind(class).bind(subject);
    let query = query.bind(clamp(revocation.issued_until)).bind(clamp(revocation.good_until));
    query.execute(&mut **transaction).await?;
    Ok(())
}

/// Nothing for a kind that a later program has made.
fn revocation_of(row: &AnyRow) -> Result<Option<Revocation>, StoreError> {
    let (class, subject): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let of = match row.try_get::<String, _>(0)?.as_str() {
        "token" => Revoked::Token { token: subject },
        "user" => Revoked::User { user: subject, class },
        "class" => Revoked::Class { class },
        "key" => Revoked::Key { kid: subject },
        _ => return Ok(None),
    };
    let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
    let (issued_until, good_until) = (seconds(row.try_get(3)?), seconds(row.try_get(4)?));
    Ok(Some(Revocation { of, issued_until, good_until }))
}
