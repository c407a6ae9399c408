//! `node_hearings`: which nodes are heard by any coordinator. Only PostgreSQL is shared.
use std::time::Duration;

use sqlx::Row;

use super::viewers::{execute, text};
use super::{Store, StoreError};

/// The database's clock in milliseconds since 1970: those of coordinators differ.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

impl Store {
    /// Notes that these nodes are heard now.
    pub(crate) async fn hear(&self, nodes: &[String]) -> Result<(), StoreError> {
        // In their order, so that two coordinators do not wait for each other.
        let insert = format!(
            "INSERT INTO node_hearings (node_id, heard_at) SELECT id, {NOW} FROM new ORDER BY id
            ON CONFLICT (node_id) DO UPDATE SET heard_at = excluded.heard_at"
        );
        let rows: Vec<_> = nodes.iter().map(|node| [text(node)]).collect();
        let mut transaction = self.pool.begin().await?;
        execute(&mut transaction, "id", &insert, &rows).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Whether any coordinator has heard a node lately.
    pub(crate) async fn is_heard(&self, node: &str, lately: Duration) -> Result<bool, StoreError> {
        let query =
            format!("SELECT COUNT(*) FROM node_hearings WHERE node_id = $1 AND heard_at > {NOW} - $2");
        let lately = i64::try_from(lately.as_millis()).unwrap_or(i64::MAX);
        let query = sqlx::query(sqlx::AssertSqlSafe(query)).bind(node).bind(lately);
        Ok(query.fetch_one(&self.pool).await?.try_get::<i64, _>(0)? > 0)
    }
}
