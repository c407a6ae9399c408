use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use control::api::{Heartbeat, Playback, PublishRequest, SessionEvent, StreamReport, StreamState};
use prometheus::Registry as Prometheus;
use tempfile::TempDir;
use testkit::Postgres;

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
        Self::with(None).await
    }

    async fn with(database_url: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().to_owned(),
            database_url,
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
        let end = self.now + time;
        look(self.app(), self.now);
        while self.now < end {
            self.now = end.min(self.now + INTERVAL);
            look(self.app(), self.now);
        }
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
            key: String::new(),
            is_relayed: false,
            since_ms: 0,
            is_ended: false,
            playback: Playback::default(),
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
        static SEQ: AtomicU64 = AtomicU64::new(1);
        let (node, boot) = ("n1".to_owned(), started_at_ms);
        let seq = SEQ.fetch_add(1, Ordering::Relaxed);
        let heartbeat = Heartbeat { node, boot, seq, started_at_ms, streams, ..Heartbeat::default() };
        let heard = hear(self.app(), Ipv4Addr::LOCALHOST.into(), heartbeat, (self.now, self.now_ms));
        heard.await.map_err(|error| match error {
            Unheard::Store(error) => error,
            Unheard::Stale(stale) => panic!("{stale}"),
        })
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
    for _ in 0..2 {
        still.wait(Duration::from_secs(4)).await;
        still.beat(1, &[]).await.unwrap();
        assert_eq!(still.counts().await, counts(&[("starting", 1)]), "it may still come");
    }
    still.wait(Duration::from_secs(3)).await;
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

/// Which of several coordinators a node speaks to is its own business.
#[tokio::test]
async fn a_node_that_another_coordinator_hears_is_not_lost() {
    let url = Postgres::shared().create_database();
    let mut still = Still::with(Some(url.clone())).await;
    let session = still.publish().await;
    still.beat(1, &[&session]).await.unwrap();
    // The clocks of the coordinators are the test's, that of the database is not.
    still.app().store.hear(&["n1".to_owned(), "n2".to_owned()]).await.unwrap();
    still.wait(HEARING_MAX + SILENCE_MAX).await;
    assert_eq!(still.counts().await, counts(&[("active", 1)]));
    let database = sqlx::AnyPool::connect(&url).await.unwrap();
    let later = "UPDATE node_hearings SET heard_at = heard_at - 20000";
    sqlx::query(later).execute(&database).await.unwrap();
    still.wait(SILENCE_MAX).await;
    assert_eq!(still.counts().await, counts(&[("stopped", 1)]));
}

/// The others have been without the database as well, and could not say whom they hear.
#[tokio::test]
async fn no_node_is_lost_soon_after_an_outage() {
    let mut still = Still::with(Some(Postgres::shared().create_database())).await;
    let session = still.publish().await;
    still.beat(1, &[&session]).await.unwrap();
    still.wait(SILENCE_MAX).await;
    assert_eq!(still.counts().await, counts(&[("active", 1)]));
    still.wait(HEARING_MAX).await;
    assert_eq!(still.counts().await, counts(&[("stopped", 1)]));
}
