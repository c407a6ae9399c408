//! What the database is told of nodes, and whether it listens: the changes of a heartbeat, and the ends of sessions that nobody
//! else can end, of nodes that are silent and such as a node does not have.
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::api::Heartbeat;
use tokio::time::MissedTickBehavior;

use crate::app::{App, now_ms};
use crate::openings;
use crate::registry::Change;
use crate::store::{EndReason, StoreError};

/// How often they are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// What the database has for its answer before it counts as away: less than a node waits for its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a database that works is asked to write, which takes a page of 4 KiB each time: where nothing is written nobody
/// misses it for as long. One that has failed is asked each time.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Milliseconds that a node has for reporting a stream that it was granted: ten heartbeats.
const UNREPORTED_MAX_MS: i64 = 10_000;

/// Looks again and again. What is in memory does not wait for the database.
pub(crate) async fn run(app: &Arc<App>) -> Infallible {
    tokio::join!(watch(app), keep(app)).0
}

async fn watch(app: &App) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        look(app, Instant::now());
    }
}

async fn keep(app: &App) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    // Not all at once after an outage.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut probed: Option<Instant> = None;
    loop {
        interval.tick().await;
        let is_due = probed.is_none_or(|probed| probed.elapsed() >= PROBE_INTERVAL);
        if is_due || !app.is_database_up() {
            probe(app).await;
            probed = Some(Instant::now());
        }
        reap(app, Instant::now(), now_ms()).await;
    }
}

/// Forgets the nodes that are silent, and counts.
fn look(app: &App, now: Instant) {
    let mut registry = app.registry();
    for node in registry.on_timeout(now) {
        tracing::warn!(node, "a node is silent");
    }
    app.metrics.nodes.set(i64::try_from(registry.nodes().len()).unwrap_or(i64::MAX));
    app.metrics.streams.set(i64::try_from(registry.streams().len()).unwrap_or(i64::MAX));
}

/// Has the database write, so that `/health` knows, and gives it what waits for it. Reading says nothing: a full disk can
/// be read.
async fn probe(app: &App) {
    let written = match in_time(app.store.check()).await {
        Ok(()) => openings::flush(app).await,
        failed => failed,
    };
    match written {
        Ok(()) => app.on_written(),
        Err(error) => app.on_database_error(&error),
    }
}

/// Tells the database what it must know. What it does not take now is found again the next time.
async fn reap(app: &App, now: Instant, now_ms: i64) {
    let (lost, nodes) = {
        let mut registry = app.registry();
        (registry.take_lost(), registry.nodes())
    };
    let mut outcome = apply(app, &lost, now, now_ms).await;
    if outcome.is_ok() {
        outcome = in_time(end_denied(app, &nodes, now_ms)).await;
    }
    if let Err(error) = outcome {
        app.on_database_error(&error);
    }
}

/// A publisher that was granted a session and went away before its first heartbeat, or whose end was not reported,
/// would otherwise be there for ever.
async fn end_denied(app: &App, nodes: &[String], now_ms: i64) -> Result<(), StoreError> {
    for node in nodes {
        for session in app.store.open_streams(node, now_ms.saturating_sub(UNREPORTED_MAX_MS)).await? {
            // Asked after the database, so that a session that has just begun is known here.
            if app.registry().denies(node, &session) {
                tracing::debug!(node, session, "a session that its node does not have");
                app.store.end_stream(&session, EndReason::Unreported, now_ms).await?;
            }
        }
    }
    Ok(())
}

/// Takes a heartbeat and writes down what it changes. Whoever sent it may give up meanwhile, which ends this where it
/// stands: then it is told again.
pub(crate) async fn hear(
    app: &App,
    from: IpAddr,
    heartbeat: Heartbeat,
    (now, now_ms): (Instant, i64),
) -> Result<(), StoreError> {
    let node = heartbeat.node.clone();
    let (changes, telling) = {
        let mut registry = app.registry();
        let changes = registry.on_heartbeat(now, from, heartbeat);
        (changes, registry.unsaved(&node))
    };
    apply(app, &changes, now, now_ms).await?;
    if let Some(telling) = telling {
        app.registry().on_saved(&node, telling);
    }
    Ok(())
}

/// Writes changes of the registry into the database. Those that it does not take will be told again.
async fn apply(app: &App, changes: &[Change], now: Instant, now_ms: i64) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let written = in_time(write(app, changes, now_ms)).await;
    if written.is_ok() {
        app.on_written();
    } else {
        changes.iter().for_each(|change| app.registry().on_unsaved(now, change.node()));
    }
    written
}

async fn write(app: &App, changes: &[Change], now_ms: i64) -> Result<(), StoreError> {
    let mut reports = Vec::new();
    for change in changes {
        match change {
            Change::Stream { report, .. } => reports.push(report),
            Change::Restarted { node, started_at_ms } => {
                let before_ms = i64::try_from(*started_at_ms).unwrap_or(i64::MAX);
                app.store.end_node(node, before_ms, EndReason::NodeRestarted, now_ms).await?;
            }
            Change::Lost { node } => {
                app.store.end_node(node, i64::MAX, EndReason::NodeLost, now_ms).await?;
            }
        }
    }
    if reports.is_empty() { Ok(()) } else { app.store.update_streams(&reports, now_ms).await }
}

async fn in_time(asked: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(StoreError::Timeout))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use control::api::{Heartbeat, PublishRequest, SessionEvent, StreamReport, StreamState};
    use prometheus::Registry as Prometheus;
    use tempfile::TempDir;

    use super::*;
    use crate::registry::SILENCE_MAX;
    use crate::server::{Bound, bind};
    use crate::store::{Epoch, Opening, Store};
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
            look(self.app(), self.now);
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
            let opening = Opening::new(&class, &request, Epoch::After(0), self.now_ms);
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
                epoch: 1,
                is_relayed: false,
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
            let heartbeat =
                Heartbeat { node, started_at_ms, public_url: None, whep_port: 8889, link: None, streams };
            hear(self.app(), Ipv4Addr::LOCALHOST.into(), heartbeat, (self.now, self.now_ms)).await
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

    /// A node waits for 3 s, the database for the end of somebody's write longer.
    #[tokio::test]
    async fn a_heartbeat_that_was_given_up_is_written_with_the_next() {
        let mut still = Still::new().await;
        let before = still.publish().await;
        still.beat(1, &[&before]).await.unwrap();
        still.watch(&before).await;
        still.now_ms += 1000;
        let life = u64::try_from(still.now_ms).unwrap();
        let session = still.publish().await;
        let other_hand = sqlx::AnyPool::connect(&Store::sqlite_url(still.folder.path())).await.unwrap();
        let mut lock = other_hand.acquire().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
        let given_up = tokio::time::timeout(Duration::from_millis(100), still.beat(life, &[&session])).await;
        assert!(given_up.is_err(), "nobody writes while somebody else does");
        sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
        still.beat(life, &[&session]).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("active", 1), ("left", 1), ("stopped", 1)]));
    }

    /// Only a write that succeeds shows that the database writes again, and only one that fails that it does not.
    #[tokio::test]
    async fn a_database_that_can_only_be_read_counts_as_failing_until_it_writes() {
        let still = Still::new().await;
        let other_hand = sqlx::AnyPool::connect(&Store::sqlite_url(still.folder.path())).await.unwrap();
        let mut lock = other_hand.acquire().await.unwrap();
        probe(still.app()).await;
        assert!(still.app().is_database_up());
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
        assert_eq!(still.counts().await, [], "it can be read");
        probe(still.app()).await;
        assert!(!still.app().is_database_up());
        reap(still.app(), still.now, still.now_ms).await;
        assert!(!still.app().is_database_up(), "there was nothing to write");
        sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
        probe(still.app()).await;
        assert!(still.app().is_database_up());
    }

    /// What nodes are there is in memory, and does not wait for a database that hangs.
    #[tokio::test]
    async fn a_silent_node_is_forgotten_while_the_database_hangs_and_written_down_afterwards() {
        let mut still = Still::new().await;
        let session = still.publish().await;
        still.beat(1, &[&session]).await.unwrap();
        let other_hand = sqlx::AnyPool::connect(&Store::sqlite_url(still.folder.path())).await.unwrap();
        let mut lock = other_hand.acquire().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
        still.wait(SILENCE_MAX).await;
        assert!(still.app().registry().nodes().is_empty());
        assert!(!still.app().is_database_up(), "it was told, and did not take it");
        sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
        still.wait(SILENCE_MAX).await;
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
