//! The end of streams whose publishers do not come back.
use std::convert::Infallible;
use std::time::{Duration, Instant};

use control::Client;
use control::api::SessionEvent;
use hub::{Hub, Status};
use process::clock::now_ms;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the hub is looked through: a fraction of the time for which it waits for a publisher.
const INTERVAL: Duration = Duration::from_secs(1);

/// Ends streams when their time is over, whether or not the coordinator answers, and reports it.
pub async fn run(hub: Hub, control: Client, drain: CancellationToken) -> Result<(), Infallible> {
    // One at most for each interval, and each ends by the client's timeout.
    let mut reports = JoinSet::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(_) = reports.join_next(), if !reports.is_empty() => continue,
            () = drain.cancelled() => break,
        }
        let ended = hub.sweep(Instant::now());
        if !ended.is_empty() {
            let control = control.clone();
            reports.spawn(async move { report_ended(&control, &ended).await });
        }
    }
    while reports.join_next().await.is_some() {}
    Ok(())
}

/// Tells the coordinator that streams have ended.
pub async fn report_ended(control: &Client, ended: &[Status]) {
    let event =
        |status: &Status| SessionEvent::StreamEnded { session: status.session.clone(), at_ms: now_ms() };
    // Of those that come from other nodes, the nodes that they come from say it.
    let events: Vec<SessionEvent> = ended.iter().filter(|status| !status.is_relayed).map(event).collect();
    if !events.is_empty()
        && let Err(error) = control.session_events(&events).await
    {
        tracing::warn!(%error, "the end of streams could not be reported");
    }
}

#[cfg(test)]
mod tests {
    use hub::Limits;
    use tokio::net::TcpListener;

    use super::*;

    /// The clock of this test jumps whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn streams_end_in_time_though_the_coordinator_does_not_answer() {
        // It accepts, by way of the kernel, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = Client::new(&format!("http://{}", silent.local_addr().unwrap()), "secret").unwrap();
        let hub = Hub::new(Limits { grace: Duration::ZERO, ..Limits::default() });
        let drain = CancellationToken::new();
        let sweeping = tokio::spawn(run(hub.clone(), control, drain.clone()));
        let begun = tokio::time::Instant::now();
        for name in ["first", "second", "third"] {
            let mut changes = hub.changes();
            drop(hub.publish(name, name, 1).unwrap());
            while hub.status(name).is_some() {
                changes.next().await;
            }
        }
        // A report that was waited for would take three seconds more for each.
        assert!(begun.elapsed() < 4 * INTERVAL, "{:?}", begun.elapsed());
        drop(silent);
        drain.cancel();
        sweeping.await.unwrap().unwrap();
    }
}
