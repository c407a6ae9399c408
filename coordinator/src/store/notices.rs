//! Notices that classes, keys or revocations were changed, among the coordinators of one PostgreSQL database.
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Any, Executor, Transaction};

use super::{CONNECT_TIMEOUT, Store, StoreError};

const CHANNEL: &str = "lectern_classes";
const NOTIFY: &str = "NOTIFY lectern_classes";

/// A connection that is told of changes.
#[derive(Debug)]
pub(crate) struct Notices(PgListener);

impl Notices {
    /// Waits for the next one.
    ///
    /// # Errors
    /// If the connection is lost: who knows what was missed?
    pub(crate) async fn next(&mut self) -> Result<(), StoreError> {
        match self.0.try_recv().await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Lost),
        }
    }

    /// Has the server answer.
    pub(crate) async fn check(&mut self) -> Result<(), StoreError> {
        self.0.execute("SELECT 1").await?;
        Ok(())
    }
}

impl Store {
    /// Listens for notices of changes; nothing if nobody else has the database.
    pub(crate) async fn listen(&self) -> Result<Option<Notices>, StoreError> {
        let Some(server) = &self.notices else { return Ok(None) };
        // A connection of its own: one that was lost takes its time to end.
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
        let pool = pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(server.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Some(Notices(listener)))
    }

    /// Whether other coordinators may have the same database.
    pub(crate) fn is_shared(&self) -> bool {
        self.notices.is_some()
    }

    /// Commits a change of classes, keys or revocations, and tells the others of it with the same.
    pub(crate) async fn commit_change(
        &self,
        mut transaction: Transaction<'_, Any>,
    ) -> Result<(), StoreError> {
        if self.is_shared() {
            transaction.execute(NOTIFY).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}
