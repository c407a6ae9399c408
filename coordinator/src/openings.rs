//! Sessions of publishers that are let in while the database is away. They are written down when it is back.
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::store::{Opening, StoreError};

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
}

impl Openings {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Opening>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a session down, now or later.
pub(crate) async fn write(app: &App, opening: Opening) {
    let is_first = app.openings.waiting().is_empty();
    if is_first {
        match try_write(app, &opening).await {
            Ok(()) => return,
            Err(error) => app.on_database_error(&error),
        }
    }
    let mut waiting = app.openings.waiting();
    if waiting.len() >= WAITING_MAX {
        waiting.pop_front();
        app.metrics.openings_dropped.inc();
    }
    waiting.push_back(opening);
    app.metrics.openings_waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
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

async fn try_write(app: &App, opening: &Opening) -> Result<(), StoreError> {
    let written = tokio::time::timeout(WRITE_TIMEOUT, app.store.open_stream(opening)).await;
    written.unwrap_or(Err(StoreError::Timeout))?;
    app.on_written();
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
    use axum::http::{Request, StatusCode};
    use control::api::PublishRequest;
    use prometheus::Registry as Prometheus;
    use tempfile::TempDir;
    use tower::ServiceExt;

    use super::*;
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
        write(&app, Opening::new(&class, &request, 1)).await;
        assert_eq!(app.metrics.database_errors.get(), 1);
        let events = Request::post("/internal/v1/sessions").header(CONTENT_TYPE, "application/json");
        let events =
            events.header(AUTHORIZATION, format!("Bearer {}", app.node_secret)).body(Body::from("[]"));
        let answer = http::router(app.clone()).oneshot(events.unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(app.metrics.database_errors.get(), 2);
    }
}
