//! What the time does: signing keys grow old, and revocations are over.
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::app::{App, now_seconds};
use crate::classes::ChangeError;

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(60);

/// Looks again and again. What the database does not take now it is asked for the next time.
pub(crate) async fn run(app: &App) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = app.revocations.withdraw_keys(&app.keys).await {
            tracing::error!(%error, "a signing key that is revoked cannot be withdrawn");
        }
        if app.signing_key_days > 0 {
            match app.keys.rotate_if_older(app.signing_key_days).await {
                Ok(()) => {}
                Err(ChangeError::Store(error)) => app.on_database_error(&error),
                Err(error) => {
                    tracing::error!(%error, "the signing key is old, and no other one can follow it");
                }
            }
        }
        if let Err(error) = app.revocations.forget(now_seconds()).await {
            app.on_database_error(&error);
        }
    }
}
