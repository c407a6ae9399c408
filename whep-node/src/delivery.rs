//! Session events on their way to the coordinator, in batches and in their order.
use std::time::Duration;

use control::api::SessionEvent;
use control::{Client, ClientError, Problem};
use rand::Rng;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::journal::pause;
use crate::metrics::Metrics;

/// Events that are reported at once: about 300 kB, 900 kB at most; the coordinator takes 1 MiB.
const BATCH_MAX: usize = 1024;
/// Between two reports, if the last was not full. A report is a request and a transaction, and a viewer that has joined and
/// connected in between is one row written instead of two: who comes with the whole class has done both by then.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two tries while the coordinator does not answer. Nodes that lost it together must not come back together.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_millis(1500);

/// A batch, and which part of it is sent next. A part that is refused is halved until the event is alone that the
/// coordinator will not have: one of them must not take the others along.
#[derive(Debug)]
struct Delivery<'a> {
    /// The last comes first.
    parts: Vec<&'a [SessionEvent]>,
}

impl<'a> Delivery<'a> {
    fn new(batch: &'a [SessionEvent]) -> Self {
        Self { parts: vec![batch] }
    }

    /// What is to be sent, until everything was.
    fn part(&self) -> Option<&'a [SessionEvent]> {
        self.parts.last().copied()
    }

    fn on_accepted(&mut self) {
        self.parts.pop();
    }

    /// Returns whether an event is lost by this.
    fn on_refused(&mut self) -> bool {
        let Some(part) = self.parts.pop() else { return false };
        if part.len() <= 1 {
            return true;
        }
        let (first, second) = part.split_at(part.len() / 2);
        self.parts.extend([second, first]);
        false
    }

    /// Gives up. Returns how many events are lost by this.
    fn abandon(&mut self) -> usize {
        self.parts.drain(..).map(<[_]>::len).sum()
    }
}

/// Reports events until `ended`, and what waits then. An outage of the coordinator is waited for until then.
pub(crate) async fn deliver(
    mut waiting: Receiver<SessionEvent>,
    control: Client,
    metrics: Metrics,
    ended: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            count = waiting.recv_many(&mut batch, BATCH_MAX) => if count == 0 { break },
            () = ended.cancelled(), if !waiting.is_closed() => waiting.close(),
        }
        send(&batch, &control, &metrics, &ended).await;
        if batch.len() < BATCH_MAX {
            pause(REPORT_INTERVAL, &ended).await;
        }
        batch.clear();
    }
}

async fn send(batch: &[SessionEvent], control: &Client, metrics: &Metrics, ended: &CancellationToken) {
    let mut delivery = Delivery::new(batch);
    let mut refused: Option<(usize, Problem)> = None;
    while let Some(part) = delivery.part().filter(|part| !part.is_empty()) {
        match control.session_events(part).await {
            Ok(()) => delivery.on_accepted(),
            Err(ClientError::Refused(problem)) => {
                if delivery.on_refused() {
                    refused = Some((refused.map_or(1, |(count, _)| count + 1), problem));
                }
            }
            Err(ClientError::Unreachable(error)) if ended.is_cancelled() => {
                let count = delivery.abandon();
                metrics.events_lost.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
                tracing::warn!(%error, count, "session events are lost: the coordinator does not answer");
            }
            Err(ClientError::Unreachable(_)) => {
                let time = rand::rng().random_range(RETRY_MIN..RETRY_MAX);
                let _ = tokio::time::timeout(time, ended.cancelled()).await;
            }
        }
    }
    if let Some((count, problem)) = refused {
        metrics.events_lost.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        tracing::warn!(
            detail = problem.detail,
            count,
            "session events are lost: the coordinator refused them"
        );
    }
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::http::StatusCode;
    use axum::routing::post;
    use tokio::sync::mpsc::{UnboundedReceiver, channel, unbounded_channel};

    use super::*;

    fn event(number: u64) -> SessionEvent {
        SessionEvent::ViewerConnected { id: number.to_string(), at_ms: number }
    }

    /// Plays a coordinator that refuses every part with one of the `bad` in it. What it accepted, what was lost, and how
    /// often it was asked.
    fn deliver(batch: &[SessionEvent], bad: &[u64]) -> (Vec<SessionEvent>, usize, usize) {
        let bad: Vec<SessionEvent> = bad.iter().copied().map(event).collect();
        let (mut accepted, mut lost, mut asked) = (Vec::new(), 0, 0);
        let mut delivery = Delivery::new(batch);
        while let Some(part) = delivery.part() {
            asked += 1;
            if part.iter().any(|event| bad.contains(event)) {
                lost += usize::from(delivery.on_refused());
            } else {
                accepted.extend_from_slice(part);
                delivery.on_accepted();
            }
        }
        (accepted, lost, asked)
    }

    #[test]
    fn a_refused_event_is_lost_alone_and_the_others_keep_their_order() {
        let batch: Vec<SessionEvent> = (0..256).map(event).collect();
        for bad in [&[0][..], &[255], &[100], &[7, 8, 200]] {
            let (accepted, lost, asked) = deliver(&batch, bad);
            let expected: Vec<SessionEvent> = (0..256).filter(|n| !bad.contains(n)).map(event).collect();
            assert_eq!((accepted, lost), (expected, bad.len()));
            assert!(asked <= 1 + 16 * bad.len(), "{asked} requests for {bad:?}");
        }
    }

    /// A coordinator that refuses whatever has the event `bad` in it; the sizes of the batches it accepts.
    async fn coordinator(bad: SessionEvent) -> (Client, UnboundedReceiver<usize>) {
        let (sizes_in, sizes) = unbounded_channel();
        let record = async move |Json(events): Json<Vec<SessionEvent>>| {
            if events.contains(&bad) {
                let problem = Problem::new(422, "Refused", "bad event").to_json();
                return (StatusCode::UNPROCESSABLE_ENTITY, problem);
            }
            let _ = sizes_in.send(events.len());
            (StatusCode::OK, "{}".to_owned())
        };
        let router = axum::Router::new().route("/internal/v1/sessions", post(record));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (Client::new(&base, "secret").unwrap(), sizes)
    }

    fn metrics() -> Metrics {
        let listen = ([127, 0, 0, 1], 0).into();
        let config = rtc::Config {
            listen,
            announce: vec![],
            shards: 1,
            viewers_max: 1,
            connections_max: 8,
            burst_multiple: 1,
        };
        let (engine, _) = rtc::Engine::bind(&config).unwrap();
        Metrics::new(&prometheus::Registry::new(), engine.handle()).unwrap()
    }

    #[tokio::test]
    async fn events_that_wait_are_reported_together_and_the_refused_one_is_counted() {
        let (control, mut sizes) = coordinator(event(500)).await;
        let (events, waiting) = channel(2000);
        (0..1500).for_each(|number| events.try_send(event(number)).unwrap());
        drop(events);
        let metrics = metrics();
        super::deliver(waiting, control, metrics.clone(), CancellationToken::new()).await;
        let mut accepted = Vec::new();
        sizes.recv_many(&mut accepted, 2000).await;
        assert_eq!(accepted.iter().sum::<usize>(), 1499);
        assert_eq!((accepted.first(), accepted.last()), (Some(&256), Some(&476)), "{accepted:?}");
        assert!(accepted.len() <= 2 + 11, "{accepted:?}");
        assert_eq!(metrics.events_lost.get(), 1);
    }

    #[tokio::test]
    async fn at_the_end_an_outage_is_not_waited_for_and_what_it_costs_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let control = Client::new(&format!("http://{}", listener.local_addr().unwrap()), "secret").unwrap();
        drop(listener);
        let (events, waiting) = channel(1000);
        (0..600).for_each(|number| events.try_send(event(number)).unwrap());
        let (metrics, ended) = (metrics(), CancellationToken::new());
        ended.cancel();
        // The sender lives: the end must not depend on it.
        super::deliver(waiting, control, metrics.clone(), ended).await;
        assert!(events.is_closed());
        assert_eq!(metrics.events_lost.get(), 600);
    }

    #[test]
    fn a_batch_that_is_given_up_is_counted_without_what_was_accepted() {
        let batch: Vec<SessionEvent> = (0..8).map(event).collect();
        let mut delivery = Delivery::new(&batch);
        assert!(!delivery.on_refused());
        delivery.on_accepted();
        assert_eq!((delivery.abandon(), delivery.part()), (4, None));
    }
}
