//! `GET /api/v1/events`: what a page is told while it is open, as server-sent events.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use process::address::network;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::{Failure, Shared};
use crate::app::{App, now_ms};
use crate::lessons::{All, Latest, Seat, Told, changes};

/// The one topic that there is.
const STATUS: &str = "status";
/// Says that every lesson of the beginning has been told.
const COMPLETE: &str = "complete";
/// Nothing is said for at most this long, so that a page learns when nobody is there any more.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A page asks again after this long, and not all of them together: what let it in may have changed.
const LIFE: Duration = Duration::from_secs(900);
const LIFE_MORE_MS: u64 = 180_000;
/// How long a page waits that has no place.
const RETRY_FULL: u32 = 30;

/// What a page wants to be told.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Parameters {
    /// `status`, which is the default.
    topics: Option<String>,
    /// The class. If left out, every class that has a lesson, and for who has the secret of monitors every other class too.
    class: Option<String>,
}

/// Tells a page of a class, or of all, for as long as it listens.
#[utoipa::path(get, path = "/api/v1/events", params(Parameters), responses(
    (status = 200, description = "events `status`, the first at once", body = Now<'_>, content_type = "text/event-stream"),
    (status = 400), (status = 401, description = "a PIN or a token is needed"), (status = 403), (status = 404),
    (status = 429), (status = 503, description = "more pages listen than may"),
))]
pub(super) async fn follow(
    State(app): Shared,
    caller: Caller,
    Query(Parameters { topics, class }): Query<Parameters>,
) -> Result<Response, Failure> {
    if topics.is_some_and(|topics| topics != STATUS) {
        return Err(Failure::bad_request("topics must be status"));
    }
    let class = class.map(|class| caller.look(&app, &class)).transpose()?;
    if class.is_none() && !caller.may_monitor(&app) {
        return Err(Failure::not_operator());
    }
    // Who asks for a class has been counted.
    if class.is_none() && !app.looks.take(caller.address(), Instant::now()) {
        return Err(Failure::too_many_requests());
    }
    let seat = app.lessons.seat(network(caller.address()));
    let Some(seat) = seat else {
        app.metrics.pages_refused.inc();
        return Err(Failure::full_of_pages(RETRY_FULL));
    };
    let until = Instant::now() + LIFE + Duration::from_millis(rand::random_range(0..LIFE_MORE_MS));
    let is_of_all = caller.is_monitor(&app);
    let page = Page { app, until, is_over: false, is_of_all, _seat: seat };
    Ok(match class {
        Some(class) => {
            let told = page.app.lessons.follow(&page.app, &class.slug);
            answer(of_class(page, told))
        }
        None => answer(of_all(page)),
    })
}

fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// What is told, and when.
#[derive(Serialize, ToSchema)]
struct Now<'a> {
    #[serde(flatten)]
    told: &'a Told,
    /// This server's clock: whose own is another reckons from it.
    now_ms: i64,
}

/// Who listens.
struct Page {
    app: Arc<App>,
    until: Instant,
    is_over: bool,
    /// It is told of classes without a lesson too.
    is_of_all: bool,
    _seat: Seat,
}

impl Page {
    /// Waits for a change. False when the page is to ask again: after a time, and when the server is about to end.
    async fn changed<T>(&self, receiver: &mut watch::Receiver<T>) -> bool {
        let leaving = async {
            match self.app.leaving.get() {
                Some(leaving) => leaving.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = receiver.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(self.until.into()) => false,
            () = leaving => false,
        }
    }
}

fn of_class(page: Page, mut told: watch::Receiver<Latest>) -> impl Stream<Item = Result<Event, Infallible>> {
    told.mark_changed();
    unfold((page, told), async |(mut page, mut told)| {
        if page.is_over || !page.changed(&mut told).await {
            return None;
        }
        let settled = page.app.lessons.settled();
        if told.borrow().0.is_offline() && Instant::now() < settled {
            // It may only not have been heard of.
            let _ = tokio::time::timeout_at(settled.into(), told.changed()).await;
        }
        let latest = Arc::clone(&told.borrow_and_update().0);
        page.is_over = latest.is_removed();
        Some((Ok(event(&latest)), (page, told)))
    })
}

/// What a page that looks at all lessons is yet to be told.
struct Waiting {
    known: Arc<All>,
    /// The last one comes first.
    events: Vec<Event>,
}

fn of_all(page: Page) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut all = page.app.lessons.follow_all(&page.app);
    all.mark_changed();
    let state = (page, all, None);
    unfold(state, async |(page, mut all, waiting): (Page, watch::Receiver<Arc<All>>, Option<Waiting>)| {
        let (is_first, mut waiting) = match waiting {
            Some(waiting) => (false, waiting),
            None => (true, Waiting { known: Arc::default(), events: Vec::new() }),
        };
        while waiting.events.is_empty() {
            if !page.changed(&mut all).await {
                return None;
            }
            let settled = page.app.lessons.settled();
            if is_first && Instant::now() < settled {
                // Of what is not known yet nobody says that it is not there.
                tokio::time::sleep_until(settled.into()).await;
            }
            let known = Arc::clone(&all.borrow_and_update());
            if is_first {
                waiting.events.push(Event::default().event(COMPLETE).data("{}"));
            }
            waiting
                .events
                .extend(changes(&waiting.known, &known, page.is_of_all).iter().rev().map(|told| event(told)));
            waiting.known = known;
        }
        let event = waiting.events.pop()?;
        Some((Ok(event), (page, all, Some(waiting))))
    })
}

fn event(told: &Told) -> Event {
    let event = Event::default().event(STATUS);
    // It is text and numbers alone.
    event.json_data(Now { told, now_ms: now_ms() }).unwrap_or_default()
}
