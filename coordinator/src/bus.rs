//! What other coordinators change: PostgreSQL tells each of them that something was changed, and they read everything anew.
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::store::{Notices, StoreError};

/// How long is waited before the database is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// What the database has for its answer before it counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing may come before the connection is tried: one that was cut without a word is silent too.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Follows what other coordinators change. With a database that is nobody else's there is nothing to follow.
pub(crate) async fn run(app: &App) -> Infallible {
    let mut is_told = false;
    loop {
        let listening = timeout(ANSWER_TIMEOUT, app.store.listen()).await.unwrap_or(Err(StoreError::Timeout));
        let error = match listening {
            Ok(None) => return std::future::pending().await,
            Ok(Some(notices)) => match follow(app, notices, &mut is_told).await {
                Ok(never) => match never {},
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !std::mem::replace(&mut is_told, true) {
            app.metrics.database_errors.inc();
            tracing::error!(%error, "what other coordinators change is not heard until the database is back");
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Listens first and reads then: nothing is changed in between. Returns when the connection is lost.
async fn follow(app: &App, mut notices: Notices, is_told: &mut bool) -> Result<Infallible, StoreError> {
    loop {
        // Each has its own time: thousands of classes must not keep it from hearing what is revoked.
        timeout(ANSWER_TIMEOUT, read_revoked(app)).await.unwrap_or(Err(StoreError::Timeout))?;
        timeout(ANSWER_TIMEOUT, app.classes.reload()).await.unwrap_or(Err(StoreError::Timeout))?;
        if std::mem::take(is_told) {
            tracing::info!("what other coordinators change is heard again");
        }
        loop {
            match timeout(SILENCE_MAX, notices.next()).await {
                Ok(next) => break next?,
                Err(_) => {
                    timeout(ANSWER_TIMEOUT, notices.check()).await.unwrap_or(Err(StoreError::Timeout))?;
                }
            }
        }
        // What else has come by now is read at the same time.
        while let Ok(next) = timeout(Duration::ZERO, notices.next()).await {
            next?;
        }
    }
}

/// What of the things that coordinators share and keep in memory must be known soon.
async fn read_revoked(app: &App) -> Result<(), StoreError> {
    app.keys.reload().await?;
    app.revocations.reload().await
}
