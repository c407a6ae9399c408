//! Sessions of publishers that are let in while the database is away. They are written down when it is back.
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::api::PublishRequest;

use crate::app::{App, now_ms};
use crate::store::{Class, Epoch, Opening, StoreError};

/// Publishers that may begin during one outage: what one node has streams for.
const WAITING_MAX: usize = 1024;
/// A phone waits for the answer, and the node asks no longer than 3 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// What the last of them have at the end of the process, which has half a second for all of its record.
const LAST_FLUSH_MAX: Duration = Duration::from_millis(200);

/// Sessions that are not written down yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    waiting: Mutex<VecDeque<Opening>>,
    /// Held while they are written, across the writes: so that they are written in their order.
    writing: tokio::sync::Mutex<()>,
    /// The greatest epoch that each class was given here.
    epochs: Mutex<HashMap<String, u64>>,
}

impl Openings {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Opening>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_epoch(&self, class_id: &str, epoch: u64) {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = epochs.entry(class_id.to_owned()).or_default();
        *known = epoch.max(*known);
    }

    /// The greatest epoch of a class that was given here.
    fn known_epoch(&self, class_id: &str) -> u64 {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.get(class_id).copied().unwrap_or_default()
    }

    /// The next epoch of a class as far as is known here.
    fn next_epoch(&self, class_id: &str, after: u64) -> u64 {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = epochs.entry(class_id.to_owned()).or_default();
        *known = after.max(*known) + 1;
        *known
    }
}

/// Opens a session for a publisher: writes it down, now or later, and says which epoch it has. Other coordinators that cannot write
/// either may give the same one out; the session tells whose it is then.
pub(crate) async fn open(app: &App, class: &Class, request: &PublishRequest) -> (String, u64) {
    // Also what a database that was set back has forgotten.
    let heard = app.registry().epoch(&class.slug).max(app.openings.known_epoch(&class.id));
    let mut opening = Opening::new(class, request, Epoch::After(heard), now_ms());
    let session = opening.session.clone();
    let is_first = app.openings.waiting().is_empty();
    if is_first {
        match try_write(app, &opening).await {
            Ok(epoch) => {
                app.openings.on_epoch(&class.id, epoch);
                return (session, epoch);
            }
            Err(error) => app.on_database_error(&error),
        }
    }
    let epoch = app.openings.next_epoch(&class.id, heard);
    opening.epoch = Epoch::Given(epoch);
    let mut waiting = app.openings.waiting();
    if waiting.len() >= WAITING_MAX {
        waiting.pop_front();
        app.metrics.openings_dropped.inc();
    }
    waiting.push_back(opening);
    app.metrics.openings_waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    (session, epoch)
}

/// Writes down what waits. Whoever calls this notes that it failed, once.
pub(crate) async fn flush(app: &App) -> Result<(), StoreError> {
    if app.openings.waiting().is_empty() {
        return Ok(());
    }
    let _writing = app.openings.writing.lock().await;
    loop {
        let Some(opening) = app.openings.waiting().front().cloned() else { return Ok(()) };
        try_write(app, &opening).await?;
        {
            let mut waiting = app.openings.waiting();
            waiting.retain(|waiting| waiting.session != opening.session);
            app.metrics.openings_waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        }
        // What its node said of it meanwhile found no session: it is told anew with the next heartbeat.
        app.registry().on_unsaved(Instant::now(), &opening.node);
    }
}

/// Writes down what can be at the end of the process; the rest is lost, and counted.
pub(crate) async fn flush_last(app: &App) {
    // Its failure shows in what is left.
    let _ = tokio::time::timeout(LAST_FLUSH_MAX, flush(app)).await;
    let lost = std::mem::take(&mut *app.openings.waiting()).len();
    if lost > 0 {
        app.metrics.openings_dropped.inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
        app.metrics.openings_waiting.set(0);
        tracing::error!(
            lost,
            "publisher sessions were never recorded: the database did not take them until the end"
        );
    }
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
    use prometheus::Registry as Prometheus;
    use tempfile::TempDir;
    use tower::ServiceExt;

    use super::*;
    use crate::credential::NodeIdentity;
    use crate::store::Store;
    use crate::{Config, bind, http};

    #[tokio::test]
    async fn a_write_that_fails_is_counted_once() {
        let folder = TempDir::new().unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { listen, data_dir: folder.path().to_owned(), ..Config::default() };
        let app = bind(config, &Prometheus::new()).await.unwrap().app;
        let other_hand = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
        sqlx::query("ALTER TABLE stream_sessions RENAME TO hidden").execute(&other_hand).await.unwrap();
        let class = app.classes.class("lesson").unwrap();
        let [node, key, peer_ip, encoder] = ["n1", "", "192.0.2.7", "phone"].map(str::to_owned);
        let request = PublishRequest { node, name: None, key, peer_ip, encoder };
        let (_, first) = open(&app, &class, &request).await;
        assert_eq!(app.metrics.database_errors.get(), 1);
        let (_, second) = open(&app, &class, &request).await;
        assert!(second > first, "{second} after {first}");
        let identity = NodeIdentity { name: "n1".to_owned(), public_url: None };
        let credential = identity.credential(&app.node_secret);
        let events = Request::post("/internal/v1/sessions").header(CONTENT_TYPE, "application/json");
        let events = events.header(AUTHORIZATION, format!("Bearer {credential}")).body(Body::from("[]"));
        let answer = http::router(app.clone()).oneshot(events.unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(app.metrics.database_errors.get(), 2);
    }
}
