//! What happens to viewers, for the session table, the metrics and the coordinator.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use control::Client;
use control::api::SessionEvent;
use rtc::{CloseReason, Event, ViewerId};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};

use crate::metrics::Metrics;
use crate::sessions::Sessions;

/// Events that may wait for the coordinator. Beyond it they are lost, and counted.
const WAITING_MAX: usize = 16_384;
/// Events that are reported at once.
const BATCH_MAX: usize = 256;
/// Between two tries while the coordinator does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Knows who is who, and passes on what happens to them; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    ids: Arc<Mutex<HashMap<ViewerId, String>>>,
    events: Sender<SessionEvent>,
    metrics: Metrics,
}

impl Journal {
    pub(crate) fn new(metrics: Metrics) -> (Self, Receiver<SessionEvent>) {
        let (events, waiting) = channel(WAITING_MAX);
        (Self { ids: Arc::default(), events, metrics }, waiting)
    }

    /// A viewer was answered.
    pub(crate) fn on_joined(&self, viewer: ViewerId, id: &str, event: SessionEvent) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(viewer, id.to_owned());
        self.report(event);
    }

    fn on_connected(&self, viewer: ViewerId) {
        let id = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&viewer).cloned();
        if let Some(id) = id {
            self.report(SessionEvent::ViewerConnected { id, at_ms: now_ms() });
        }
    }

    fn on_closed(&self, viewer: ViewerId, reason: CloseReason, stats: &rtc::ViewerStats) {
        let id = self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&viewer);
        if let Some(id) = id {
            self.report(SessionEvent::ViewerLeft {
                id,
                at_ms: now_ms(),
                reason: reason.as_str().to_owned(),
                bytes: stats.bytes,
                packets: stats.packets,
                lost: stats.lost,
            });
        }
    }

    fn report(&self, event: SessionEvent) {
        if self.events.try_send(event).is_err() {
            self.metrics.events_lost.inc();
        }
    }
}

/// Follows the engine until it ends.
pub(crate) async fn follow(mut events: UnboundedReceiver<Event>, sessions: Sessions, journal: Journal) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected { viewer, profile, took } => {
                journal.metrics.join_seconds.observe(took.as_secs_f64());
                tracing::info!(profile, took_ms = took.as_millis(), "viewer connected");
                journal.on_connected(viewer);
            }
            Event::Closed { viewer, reason, stats } => {
                sessions.remove_viewer(viewer);
                tracing::info!(
                    reason = reason.as_str(),
                    packets = stats.packets,
                    lost = stats.lost,
                    "viewer gone"
                );
                journal.on_closed(viewer, reason, &stats);
            }
        }
    }
}

/// Reports events in their order until there can be no more of them.
pub(crate) async fn deliver(mut waiting: Receiver<SessionEvent>, control: Client) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        while let Err(error) = control.session_events(&batch).await {
            if matches!(error, control::ClientError::Refused(_)) || waiting.is_closed() {
                tracing::warn!(%error, count = batch.len(), "session events are lost");
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        batch.clear();
    }
}

/// The wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
