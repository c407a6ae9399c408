//! What happens to viewers, for the session table, the metrics and the coordinator.
use std::time::Duration;

use control::api::SessionEvent;
use process::clock::now_ms;
use rtc::{CloseReason, Event, ViewerId, ViewerStats};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::sessions::Sessions;

/// Events that may wait for the coordinator. Beyond it they are lost, and counted.
const WAITING_MAX: usize = 16_384;
/// Events of the engine that are taken at once.
const TAKEN_MAX: usize = 256;
/// Between two looks at what the engine says, if the last was not full. Whoever speaks to a task that sleeps has nobody to
/// wake, and no viewer waits for it.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes what is to be reported; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    events: Sender<SessionEvent>,
    metrics: Metrics,
}

impl Journal {
    pub(crate) fn new(metrics: Metrics) -> (Self, Receiver<SessionEvent>) {
        let (events, waiting) = channel(WAITING_MAX);
        (Self { events, metrics }, waiting)
    }

    /// Never blocks: what finds no room is lost, and counted.
    pub(crate) fn report(&self, event: SessionEvent) {
        if self.events.try_send(event).is_err() {
            self.metrics.events_lost.inc();
        }
    }
}

/// Follows the engine until it has `ended`, and what it said until then.
pub(crate) async fn follow(
    mut events: UnboundedReceiver<Event>,
    sessions: Sessions,
    journal: Journal,
    ended: CancellationToken,
) {
    let mut taken = Vec::with_capacity(TAKEN_MAX);
    loop {
        tokio::select! {
            biased;
            count = events.recv_many(&mut taken, TAKEN_MAX) => if count == 0 { break },
            () = ended.cancelled(), if !events.is_closed() => events.close(),
        }
        let is_behind = taken.len() >= TAKEN_MAX;
        for event in taken.drain(..) {
            match event {
                Event::Connected { viewer, profile, took } => {
                    on_connected(&sessions, &journal, viewer, profile, took);
                }
                Event::Closed { viewer, reason, stats } => {
                    on_closed(&sessions, &journal, viewer, reason, &stats);
                }
            }
        }
        if !is_behind {
            pause(PAUSE, &ended).await;
        }
    }
}

/// Lets events gather, until there will be no more of them.
pub(crate) async fn pause(time: Duration, ended: &CancellationToken) {
    let _ = tokio::time::timeout(time, ended.cancelled()).await;
}

fn on_connected(
    sessions: &Sessions,
    journal: &Journal,
    viewer: ViewerId,
    profile: &'static str,
    took: Duration,
) {
    journal.metrics.join_seconds.observe(took.as_secs_f64());
    let Some(id) = sessions.on_connected(viewer, took) else { return };
    tracing::debug!(session = id, profile, took_ms = took.as_millis(), "viewer connected");
    journal.report(SessionEvent::ViewerConnected { id, at_ms: now_ms() });
}

fn on_closed(
    sessions: &Sessions,
    journal: &Journal,
    viewer: ViewerId,
    reason: CloseReason,
    stats: &ViewerStats,
) {
    let Some(session) = sessions.on_closed(viewer) else { return };
    let reason = if session.is_revoked { "revoked" } else { reason.as_str() };
    // The one line that a viewer is worth at this level: at the beginning of a lesson hundreds come in a second.
    tracing::info!(
        session = session.report_id,
        stream = session.stream_session,
        reason,
        join_ms = session.join_time.map(|took| took.as_millis()),
        packets = stats.packets,
        lost = stats.lost,
        "viewer closed"
    );
    journal.report(SessionEvent::ViewerLeft {
        id: session.report_id,
        at_ms: now_ms(),
        reason: reason.to_owned(),
        bytes: stats.bytes,
        packets: stats.packets,
        lost: stats.lost,
    });
}
