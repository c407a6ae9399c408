//! The record of who published and who watched.
use control::api::{SessionEvent, StreamState};
use coordinator::Mode;
use coordinator::store::Store;
use tempfile::TempDir;

use crate::running::{Running, start};

fn counts(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect()
}

fn joined(stream_session: &str) -> SessionEvent {
    SessionEvent::ViewerJoined {
        id: "v1".to_owned(),
        node: "n1".to_owned(),
        stream_session: stream_session.to_owned(),
        user_id: "s-1".to_owned(),
        user_type: "student".to_owned(),
        user_agent: "browser".to_owned(),
        ip_address: "192.0.2.9".to_owned(),
        at_ms: 10,
    }
}

fn left() -> SessionEvent {
    let (id, reason) = ("v1".to_owned(), "left".to_owned());
    SessionEvent::ViewerLeft { id, at_ms: 20, reason, bytes: 1000, packets: 10, lost: 1 }
}

#[tokio::test]
async fn sessions_are_recorded_as_they_happen() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    let is =
        async |expected: &[(&str, i64)]| assert_eq!(store.session_counts().await.unwrap(), counts(expected));
    let first = running.publish(None, &running.key).await.unwrap();
    is(&[("starting", 1)]).await;
    running.beat(Some((&first, StreamState::Active))).await;
    is(&[("active", 1)]).await;
    running.node.session_events(&[joined(&first)]).await.unwrap();
    running.node.session_events(&[joined(&first)]).await.unwrap();
    is(&[("active", 1), ("watching", 1)]).await;
    running.beat(Some((&first, StreamState::Grace))).await;
    is(&[("stopping", 1), ("watching", 1)]).await;
    let second = running.publish(None, &running.key).await.unwrap();
    assert_ne!(first, second, "a publisher that comes again has a session of its own");
    running.node.session_events(&[left()]).await.unwrap();
    is(&[("left", 1), ("starting", 1), ("stopped", 1)]).await;
    let ended = SessionEvent::StreamEnded { session: second, at_ms: 30 };
    running.node.session_events(&[ended]).await.unwrap();
    is(&[("left", 1), ("stopped", 2)]).await;
    let lost = running.node.session_events(&[joined("a session of another database")]).await;
    assert!(lost.is_ok(), "what cannot be recorded must not be sent again and again");
    let counted = "lectern_coordinator_viewers_dropped_total 1\n";
    assert!(
        running.metrics().contains(counted),
        "and what was told twice is not lost: {}",
        running.metrics()
    );
}

#[tokio::test]
async fn the_columns_say_who_watched_what_when() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let connected = SessionEvent::ViewerConnected { id: "v1".to_owned(), at_ms: 15 };
    running.node.session_events(&[joined(&session), connected, left()]).await.unwrap();
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    let query =
        "SELECT user_id, role, user_agent, ip_address, joined_at, connected_at, disconnected_at, bytes,
        packets_lost FROM viewer_sessions";
    let viewer: (String, String, String, String, i64, i64, i64, i64, i64) =
        sqlx::query_as(query).fetch_one(&database).await.unwrap();
    let texts = (&*viewer.0, &*viewer.1, &*viewer.2, &*viewer.3);
    assert_eq!(texts, ("s-1", "student", "browser", "192.0.2.9"));
    assert_eq!((viewer.4, viewer.5, viewer.6, viewer.7, viewer.8), (10, 15, 20, 1000, 1));
    let query =
        "SELECT status, video_codec, audio_codec, width, height, publisher_ip, encoder FROM stream_sessions";
    let stream: (String, String, String, i64, i64, String, String) =
        sqlx::query_as(query).fetch_one(&database).await.unwrap();
    let texts = (&*stream.0, &*stream.1, &*stream.2, &*stream.5, &*stream.6);
    assert_eq!(texts, ("active", "h264", "opus", "192.0.2.7", "phone"));
    assert_eq!((stream.3, stream.4), (1280, 720));
}

/// What a killed process leaves behind is there for the next one.
#[tokio::test]
async fn keys_classes_and_sessions_survive_a_kill() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    running.node.session_events(&[joined(&session)]).await.unwrap();
    let (key, pin, base) = (running.key.clone(), running.pin.clone(), running.base.clone());
    running.kill().await;
    let running: Running = start(folder.path(), Mode::Open).await;
    assert_eq!((&running.key, &running.pin), (&key, &pin));
    assert_ne!(running.base, base);
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), counts(&[("active", 1), ("watching", 1)]));
    // The node was killed with it: in its new life it has none of these.
    let heartbeat =
        control::api::Heartbeat { boot: 2, started_at_ms: u64::MAX, ..crate::running::heartbeat(vec![]) };
    running.node.heartbeat(&heartbeat).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), counts(&[("left", 1), ("stopped", 1)]));
    assert!(running.publish(None, &key).await.is_ok());
}
