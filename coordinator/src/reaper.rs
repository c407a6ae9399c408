//! Ends the sessions that nobody else can end: of nodes that are silent, and such as a node does not have.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::{App, now_ms};
use crate::openings;
use crate::registry::Change;
use crate::store::{EndReason, StoreError};

/// How often they are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// What the database has for its answer before it counts as away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Milliseconds that a node has for reporting a stream that it was granted: ten heartbeats.
const UNREPORTED_MAX_MS: i64 = 10_000;

/// Looks again and again.
pub(crate) async fn run(app: &Arc<App>) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        probe(app).await;
        reap(app, Instant::now(), now_ms()).await;
    }
}

/// Asks the database whether it is there, so that nobody else needs to, and gives it what waits for it.
async fn probe(app: &App) {
    let probed = tokio::time::timeout(PROBE_TIMEOUT, app.store.check()).await;
    app.on_database(&probed.unwrap_or(Err(StoreError::Timeout)));
    {
        let registry = app.registry();
        app.metrics.nodes.set(i64::try_from(registry.nodes().len()).unwrap_or(i64::MAX));
        app.metrics.streams.set(i64::try_from(registry.streams().len()).unwrap_or(i64::MAX));
    }
    // Its failure was noted there, and it is tried again with the next heartbeat or in a second.
    let _ = openings::flush(app).await;
}

/// Looks once. What the database does not take now is found again the next time.
async fn reap(app: &App, now: Instant, now_ms: i64) {
    let changes = app.registry().on_timeout(now);
    for change in &changes {
        tracing::warn!(node = change.node(), "a node is silent");
    }
    let nodes = app.registry().nodes();
    let mut outcome = apply(app, changes, now, now_ms).await;
    for node in nodes {
        outcome = outcome.and(end_denied(app, &node, now_ms).await);
    }
    app.on_database(&outcome);
}

/// A publisher that was granted a session and went away before its first heartbeat, or whose end was not reported,
/// would otherwise be there for ever.
async fn end_denied(app: &App, node: &str, now_ms: i64) -> Result<(), StoreError> {
    for session in app.store.open_streams(node, now_ms.saturating_sub(UNREPORTED_MAX_MS)).await? {
        // Asked after the database, so that a session that has just begun is known here.
        if app.registry().denies(node, &session) {
            tracing::debug!(node, session, "a session that its node does not have");
            app.store.end_stream(&session, EndReason::Unreported, now_ms).await?;
        }
    }
    Ok(())
}

/// Writes changes of the registry into the database. Those that it does not take will be told again.
pub(crate) async fn apply(
    app: &App,
    changes: Vec<Change>,
    now: Instant,
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    let mut reports = Vec::new();
    for change in &changes {
        let written = match change {
            Change::Stream { report, .. } => {
                reports.push(report);
                continue;
            }
            Change::Restarted { node, started_at_ms } => {
                let before_ms = i64::try_from(*started_at_ms).unwrap_or(i64::MAX);
                app.store.end_node(node, before_ms, EndReason::NodeRestarted, now_ms).await
            }
            Change::Lost { node } => app.store.end_node(node, i64::MAX, EndReason::NodeLost, now_ms).await,
        };
        if written.is_err() {
            app.registry().on_unsaved(now, change.node());
        }
        outcome = outcome.and(written);
    }
    if !reports.is_empty() {
        let written = app.store.update_streams(&reports, now_ms).await;
        if written.is_err() {
            changes.iter().for_each(|change| app.registry().on_unsaved(now, change.node()));
        }
        outcome = outcome.and(written);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use control::api::{Heartbeat, PublishRequest, SessionEvent, StreamReport, StreamState};
    use prometheus::Registry as Prometheus;
    use tempfile::TempDir;

    use super::*;
    use crate::registry::SILENCE_MAX;
    use crate::server::{Bound, bind};
    use crate::store::{Opening, Store};
    use crate::{Config, Mode};

    /// A coordinator that does not run, and whose clock is the test's.
    struct Still {
        folder: TempDir,
        bound: Bound,
        now: Instant,
        now_ms: i64,
    }

    impl Still {
        async fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let config = Config {
                listen: ([127, 0, 0, 1], 0).into(),
                data_dir: folder.path().to_owned(),
                mode: Mode::Open,
                ..Config::default()
            };
            let bound = bind(config, &Prometheus::new()).await.unwrap();
            Self { folder, bound, now: Instant::now(), now_ms: 1_000_000 }
        }

        fn app(&self) -> &App {
            &self.bound.app
        }

        async fn wait(&mut self, time: Duration) {
            self.now += time;
            self.now_ms += i64::try_from(time.as_millis()).unwrap();
            reap(self.app(), self.now, self.now_ms).await;
        }

        async fn publish(&self) -> String {
            let request = PublishRequest {
                node: "n1".to_owned(),
                name: None,
                key: String::new(),
                peer_ip: "192.0.2.7".to_owned(),
                encoder: "phone".to_owned(),
            };
            let class = self.app().classes.class("lesson").unwrap();
            let opening = Opening::new(&class, &request, self.now_ms);
            self.app().store.open_stream(&opening).await.unwrap();
            opening.session
        }

        async fn watch(&self, session: &str) {
            let joined = SessionEvent::ViewerJoined {
                id: "v1".to_owned(),
                node: "n1".to_owned(),
                stream_session: session.to_owned(),
                user_id: "s-1".to_owned(),
                user_type: "student".to_owned(),
                user_agent: "browser".to_owned(),
                ip_address: "192.0.2.9".to_owned(),
                at_ms: u64::try_from(self.now_ms).unwrap(),
            };
            self.app().store.record(&[joined]).await.unwrap();
        }

        async fn beat(&self, started_at_ms: u64, sessions: &[&str]) -> Result<(), StoreError> {
            let report = |session: &&str| StreamReport {
                class: "lesson".to_owned(),
                session: (*session).to_owned(),
                state: StreamState::Active,
                viewers: 0,
                has_video: true,
                has_audio: true,
                width: 1280,
                height: 720,
                bitrate_bps: 0,
                problems: Vec::new(),
            };
            let streams = sessions.iter().map(report).collect();
            let node = "n1".to_owned();
            let heartbeat = Heartbeat { node, started_at_ms, public_url: None, whep_port: 8889, streams };
            let changes = self.app().registry().on_heartbeat(self.now, heartbeat);
            apply(self.app(), changes, self.now, self.now_ms).await
        }

        async fn counts(&self) -> Vec<(String, i64)> {
            self.app().store.session_counts().await.unwrap()
        }
    }

    fn counts(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
        expected.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect()
    }

    #[tokio::test]
    async fn a_silent_node_takes_its_sessions_with_it() {
        let mut still = Still::new().await;
        let session = still.publish().await;
        still.beat(1, &[&session]).await.unwrap();
        still.watch(&session).await;
        still.wait(SILENCE_MAX / 2).await;
        assert_eq!(still.counts().await, counts(&[("active", 1), ("watching", 1)]));
        still.wait(SILENCE_MAX / 2).await;
        assert_eq!(still.counts().await, counts(&[("left", 1), ("stopped", 1)]));
    }

    #[tokio::test]
    async fn a_node_that_was_only_out_of_reach_has_its_stream_back() {
        let mut still = Still::new().await;
        let session = still.publish().await;
        still.beat(1, &[&session]).await.unwrap();
        still.wait(SILENCE_MAX).await;
        assert_eq!(still.counts().await, counts(&[("stopped", 1)]));
        still.beat(1, &[&session]).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("active", 1)]));
    }

    #[tokio::test]
    async fn a_node_in_a_new_life_has_nothing_from_its_old_one() {
        let mut still = Still::new().await;
        let session = still.publish().await;
        still.beat(1, &[&session]).await.unwrap();
        still.watch(&session).await;
        still.wait(Duration::from_secs(1)).await;
        still.beat(u64::try_from(still.now_ms).unwrap(), &[]).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("left", 1), ("stopped", 1)]));
    }

    #[tokio::test]
    async fn a_session_that_its_node_never_reports_is_ended_after_a_while() {
        let mut still = Still::new().await;
        still.beat(1, &[]).await.unwrap();
        still.publish().await;
        still.wait(Duration::from_secs(5)).await;
        still.beat(1, &[]).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("starting", 1)]), "it may still come");
        still.wait(Duration::from_secs(6)).await;
        assert_eq!(still.counts().await, counts(&[("stopped", 1)]));
    }

    #[tokio::test]
    async fn what_the_database_did_not_take_is_written_with_the_next_heartbeat() {
        let still = Still::new().await;
        let session = still.publish().await;
        let other_hand = sqlx::AnyPool::connect(&Store::sqlite_url(still.folder.path())).await.unwrap();
        sqlx::query("ALTER TABLE stream_sessions RENAME TO hidden").execute(&other_hand).await.unwrap();
        assert!(still.beat(1, &[&session]).await.is_err());
        sqlx::query("ALTER TABLE hidden RENAME TO stream_sessions").execute(&other_hand).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("starting", 1)]));
        still.beat(1, &[&session]).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("active", 1)]));
    }
}
