//! The ends of sessions whose tokens were revoked.
use std::convert::Infallible;
use std::time::Duration;

use control::TokenVerifier;
use rtc::EngineHandle;

use crate::metrics::Metrics;
use crate::sessions::Sessions;

/// How often sessions are looked at though nothing new was heard: within this time everything is mended that should not be.
const INTERVAL: Duration = Duration::from_secs(30);

/// Ends sessions as soon as it is heard that their tokens are void. One that begins meanwhile is refused or found here, for it is
/// entered and looked for under one lock.
pub(crate) async fn run(
    sessions: Sessions,
    engine: EngineHandle,
    verifier: TokenVerifier,
    metrics: Metrics,
) -> Infallible {
    let mut changes = verifier.revocation_changes();
    loop {
        let ended = sessions.revoke(&verifier.revocations());
        for viewer in &ended {
            engine.remove(*viewer);
        }
        if !ended.is_empty() {
            metrics.sessions_revoked.inc_by(u64::try_from(ended.len()).unwrap_or(u64::MAX));
            tracing::info!(sessions = ended.len(), "sessions whose tokens were revoked are ended");
        }
        // Its sender is the verifier's, which is here.
        let _ = tokio::time::timeout(INTERVAL, changes.changed()).await;
    }
}
