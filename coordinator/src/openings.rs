//! Sessions of publishers that are let in while the database is away. They are written down when it is back.
mod ledger;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::api::PublishRequest;

pub use self::ledger::Ledger;
use crate::app::{App, now_ms};
use crate::store::{Class, Epoch, Opening, StoreError};

/// A phone waits for the answer, and the node asks no longer than 3 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// What the last of them have at the end of the process, which has half a second for all of its record.
const LAST_FLUSH_MAX: Duration = Duration::from_millis(200);

/// What is known of publishers here.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    ledger: Mutex<Ledger>,
    /// Held while those that wait are written, across the writes: so that they are written in their order.
    writing: tokio::sync::Mutex<()>,
}

impl Openings {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a session for a publisher: writes it down, now or later, and says which epoch it has.
pub(crate) async fn open(app: &App, class: &Class, request: &PublishRequest) -> (String, u64) {
    let heard = app.registry().epoch(&class.slug);
    let (known, may_write) = {
        let ledger = app.openings.ledger();
        (ledger.known(&class.id, heard), ledger.is_written())
    };
    let opening = Opening::new(class, request, Epoch::After(known), now_ms());
    let session = opening.session.clone();
    if may_write {
        match try_write(app, &opening).await {
            Ok(epoch) => {
                app.openings.ledger().on_epoch(&class.id, epoch);
                return (session, epoch);
            }
            Err(error) => app.on_database_error(&error),
        }
    }
    let mut ledger = app.openings.ledger();
    let (epoch, is_one_forgotten) = ledger.give(opening, heard, rand::random());
    if is_one_forgotten {
        app.metrics.openings_dropped.inc();
    }
    show_waiting(app, &ledger);
    (session, epoch)
}

/// Writes down what waits. Whoever calls this notes that it failed, once.
pub(crate) async fn flush(app: &App) -> Result<(), StoreError> {
    if app.openings.ledger().is_written() {
        return Ok(());
    }
    let _writing = app.openings.writing.lock().await;
    write(app).await
}

/// The same, unless somebody else is at it: while the database does not answer, each in turn would wait for it, and nodes would fall
/// silent that wait for a word.
pub(crate) async fn flush_or_leave(app: &App) -> Result<(), StoreError> {
    let Ok(_writing) = app.openings.writing.try_lock() else { return Ok(()) };
    write(app).await
}

async fn write(app: &App) -> Result<(), StoreError> {
    loop {
        let Some(opening) = app.openings.ledger().next().cloned() else { return Ok(()) };
        match try_write(app, &opening).await {
            Err(error) if error.is_final() => {
                tracing::error!(%error, session = opening.session, "a publisher's session is never recorded");
                app.metrics.openings_dropped.inc();
            }
            written => _ = written?,
        }
        {
            let mut ledger = app.openings.ledger();
            ledger.on_written(&opening.session);
            show_waiting(app, &ledger);
        }
        // What its node said of it meanwhile found no session: it is told anew with the next heartbeat.
        app.registry().on_unsaved(Instant::now(), &opening.node);
    }
}

/// Writes down what can be at the end of the process; the rest is lost, and counted.
pub(crate) async fn flush_last(app: &App) {
    // Its failure shows in what is left.
    let _ = tokio::time::timeout(LAST_FLUSH_MAX, flush(app)).await;
    let lost = app.openings.ledger().abandon();
    if lost > 0 {
        app.metrics.openings_dropped.inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
        app.metrics.openings_waiting.set(0);
        tracing::error!(
            lost,
            "publisher sessions were never recorded: the database did not take them until the end"
        );
    }
}

fn show_waiting(app: &App, ledger: &Ledger) {
    app.metrics.openings_waiting.set(i64::try_from(ledger.waiting()).unwrap_or(i64::MAX));
}

async fn try_write(app: &App, opening: &Opening) -> Result<u64, StoreError> {
    let written = tokio::time::timeout(WRITE_TIMEOUT, app.store.open_stream(opening)).await;
    let epoch = written.unwrap_or(Err(StoreError::Timeout))?;
    app.on_written();
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
    use axum::http::{Request, StatusCode};
    use control::api::Heartbeat;
    use prometheus::Registry as Prometheus;
    use tempfile::TempDir;
    use tower::ServiceExt;

    use super::*;
    use crate::credential::NodeIdentity;
    use crate::store::Store;
    use crate::{Config, bind, http};

    fn request(app: &App, path: &str, body: String) -> Request<Body> {
        let identity = NodeIdentity { name: "n1".to_owned(), public_url: None };
        let credential = identity.credential(&app.node_secret);
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        request.header(AUTHORIZATION, format!("Bearer {credential}")).body(Body::from(body)).unwrap()
    }

    fn publish_request() -> PublishRequest {
        let [node, key, peer_ip, encoder] = ["n1", "", "192.0.2.7", "phone"].map(str::to_owned);
        PublishRequest { node, name: None, key, peer_ip, encoder }
    }

    #[tokio::test]
    async fn a_write_that_fails_is_counted_once() {
        let folder = TempDir::new().unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { listen, data_dir: folder.path().to_owned(), ..Config::default() };
        let app = bind(config, &Prometheus::new()).await.unwrap().app;
        let other_hand = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
        sqlx::query("ALTER TABLE stream_sessions RENAME TO hidden").execute(&other_hand).await.unwrap();
        let class = app.classes.class("lesson").unwrap();
        let (_, first) = open(&app, &class, &publish_request()).await;
        assert_eq!(app.metrics.database_errors.get(), 1);
        let (_, second) = open(&app, &class, &publish_request()).await;
        assert!(second > first, "{second} after {first}");
        let events = request(&app, "/internal/v1/sessions", "[]".to_owned());
        let answer = http::router(app.clone()).oneshot(events).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(app.metrics.database_errors.get(), 2);
    }

    #[tokio::test]
    async fn a_session_that_the_database_refuses_does_not_keep_the_next_from_it() {
        let folder = TempDir::new().unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { listen, data_dir: folder.path().to_owned(), ..Config::default() };
        let app = bind(config, &Prometheus::new()).await.unwrap().app;
        let class = app.classes.class("lesson").unwrap();
        let mut gone = Opening::new(&class, &publish_request(), Epoch::After(0), now_ms());
        gone.class_id = "of a class that the database has forgotten".to_owned();
        let next = Opening::new(&class, &publish_request(), Epoch::After(0), now_ms());
        for opening in [gone, next] {
            app.openings.ledger().give(opening, 0, 0);
        }
        flush(&app).await.unwrap();
        assert_eq!((app.openings.ledger().waiting(), app.metrics.openings_dropped.get()), (0, 1));
        assert_eq!(app.store.session_counts().await.unwrap(), [("starting".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_node_is_heard_while_another_waits_for_the_database() {
        let folder = TempDir::new().unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { listen, data_dir: folder.path().to_owned(), ..Config::default() };
        let app = bind(config, &Prometheus::new()).await.unwrap().app;
        let class = app.classes.class("lesson").unwrap();
        let opening = Opening::new(&class, &publish_request(), Epoch::After(0), now_ms());
        app.openings.ledger().give(opening, 0, 0);
        let _another = app.openings.writing.lock().await;
        let heartbeat = Heartbeat {
            node: "n1".to_owned(),
            boot: 1,
            seq: 1,
            coordinator: app.run.clone(),
            ..Heartbeat::default()
        };
        let heartbeat = request(&app, "/internal/v1/heartbeat", serde_json::to_string(&heartbeat).unwrap());
        let answer = http::router(app.clone()).oneshot(heartbeat);
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
        assert_eq!(answer.expect("it does not wait for the other").unwrap().status(), StatusCode::OK);
        assert!(app.registry().is_heard(Instant::now(), "n1"));
        assert_eq!(app.openings.ledger().waiting(), 1, "the other writes it");
    }
}
