//! The time between the wish that a node ends and its end: viewers go to other nodes, publishers stay.
use std::time::{Duration, Instant};

use hub::{Hub, State};
use process::drain::Draining;
use tokio_util::sync::CancellationToken;
use whep_node::Audience;

/// How often it is looked whether everybody is gone.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines in the log that say who is still here.
const TOLD: Duration = Duration::from_secs(10);

/// Who may still be here.
pub(crate) struct Remaining {
    pub(crate) audience: Audience,
    pub(crate) hub: Hub,
}

impl Remaining {
    fn viewers(&self) -> usize {
        self.audience.all()
    }

    /// Publishers who speak to this node.
    fn publishers(&self) -> usize {
        let statuses = self.hub.statuses();
        statuses.iter().filter(|status| !status.is_relayed && status.state != State::Grace).count()
    }
}

/// Waits until the node is to end: when `asked`, or when an operator lets it drain, and then until everybody is gone or the time
/// is over. An operator may change his mind until then, a signal does not.
pub(crate) async fn run(asked: CancellationToken, draining: Draining, remaining: Remaining) {
    let by_signal = async {
        asked.cancelled().await;
        let mut standing = draining.subscribe();
        loop {
            if !draining.is_on() {
                draining.begin(None);
            }
            let _ = standing.changed().await;
        }
    };
    tokio::select! {
        never = by_signal => never,
        () = drained(&draining, &remaining) => {}
    }
}

async fn drained(draining: &Draining, remaining: &Remaining) {
    loop {
        draining.begun().await;
        tracing::info!("draining: viewers go to other nodes, publishers may stay");
        let mut told = Instant::now();
        while let Some(deadline) = draining.deadline() {
            let (viewers, publishers) = (remaining.viewers(), remaining.publishers());
            if viewers == 0 && publishers == 0 {
                tracing::info!("drained: nobody is left");
                return;
            }
            if Instant::now() >= deadline {
                tracing::warn!(viewers, publishers, "the time for draining is over");
                return;
            }
            if told.elapsed() >= TOLD {
                told = Instant::now();
                tracing::info!(viewers, publishers, "still draining");
            }
            tokio::time::sleep(INTERVAL).await;
        }
        tracing::info!("draining was undone");
    }
}
