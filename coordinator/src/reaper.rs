//! What the database is told of nodes, and whether it listens: the changes of a heartbeat, and the ends of sessions that nobody
//! else can end, of nodes that are silent and such as a node does not have.
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::api::Heartbeat;
use thiserror::Error;
use tokio::time::MissedTickBehavior;

use crate::app::{App, now_ms};
use crate::registry::{Change, Stale};
use crate::store::{EndReason, StoreError};
use crate::{loads, openings};

/// How often they are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// What it has for what a heartbeat changes: the node is answered then, and hears what it must.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);
/// What the database has for its answer before it counts as away: less than a node waits for its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a database that works is asked to write, which takes a page of 4 KiB each time: where nothing is written nobody
/// misses it for as long. One that has failed is asked each time.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the coordinators of one database tell each other which nodes they hear.
const HEARING_INTERVAL: Duration = Duration::from_secs(4);
/// A node that none of them has heard for this long is lost. They have as long after an outage to say which they hear.
const HEARING_MAX: Duration = Duration::from_secs(12);
/// Milliseconds that a node has for reporting a stream that it was granted: ten heartbeats.
const UNREPORTED_MAX_MS: i64 = 10_000;

/// Looks again and again. What is in memory does not wait for the database.
pub(crate) async fn run(app: &Arc<App>) -> Infallible {
    tokio::join!(watch(app), keep(app)).0
}

async fn watch(app: &App) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        look(app, Instant::now());
        loads::look(app, Instant::now());
    }
}

async fn keep(app: &App) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    // Not all at once after an outage.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut probed, mut heard): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        interval.tick().await;
        if app.store.is_shared() && heard.is_none_or(|heard| heard.elapsed() >= HEARING_INTERVAL) {
            let nodes = app.registry().heard(Instant::now());
            match in_time(app.store.hear(&nodes)).await {
                Ok(()) => heard = Some(Instant::now()),
                Err(error) => app.on_database_error(&error),
            }
        }
        let is_due = probed.is_none_or(|probed| probed.elapsed() >= PROBE_INTERVAL);
        if is_due || !app.is_database_up() {
            probe(app).await;
            probed = Some(Instant::now());
        }
        reap(app, Instant::now(), now_ms()).await;
    }
}

/// Forgets the nodes that are silent, and counts.
fn look(app: &App, now: Instant) {
    let mut registry = app.registry();
    for node in registry.on_timeout(now) {
        tracing::warn!(node, "a node is silent");
    }
    app.metrics.nodes.set(i64::try_from(registry.nodes().len()).unwrap_or(i64::MAX));
    app.metrics.streams.set(i64::try_from(registry.count_streams()).unwrap_or(i64::MAX));
}

/// Has the database write, so that `/health` knows, and gives it what waits for it. Reading says nothing: a full disk can
/// be read.
async fn probe(app: &App) {
    let written = match in_time(app.store.check()).await {
        Ok(()) => openings::flush(app).await,
        failed => failed,
    };
    match written {
        Ok(()) => app.on_written(),
        Err(error) => app.on_database_error(&error),
    }
}

/// Tells the database what it must know. What it does not take now is found again the next time.
async fn reap(app: &App, now: Instant, now_ms: i64) {
    let (lost, nodes) = {
        let mut registry = app.registry();
        (registry.take_lost(), registry.heard(now))
    };
    let lost = lost_everywhere(app, lost, now).await;
    let mut outcome = apply(app, &lost, now, now_ms).await;
    for change in &lost {
        let (now, mut registry) = (Instant::now(), app.registry());
        // It has come back meanwhile: what it says is written over this.
        if registry.is_heard(now, change.node()) {
            registry.on_unsaved(now, change.node());
        }
    }
    if outcome.is_ok() {
        outcome = in_time(end_denied(app, &nodes, now_ms)).await;
    }
    if let Err(error) = outcome {
        app.on_database_error(&error);
    }
}

/// Of the nodes that are silent here, those that no other coordinator hears. The others may be lost later.
async fn lost_everywhere(app: &App, lost: Vec<Change>, now: Instant) -> Vec<Change> {
    if !app.store.is_shared() {
        return lost;
    }
    let mut may_tell = app.database_up_for(now).is_some_and(|time| time > HEARING_MAX);
    let mut found = Vec::new();
    for change in lost {
        let mut is_lost = false;
        if may_tell {
            let heard = app.store.is_heard(change.node(), HEARING_MAX);
            let heard = tokio::time::timeout(ANSWER_TIMEOUT, heard).await;
            // Not every node waits for a database that does not answer.
            may_tell = matches!(heard, Ok(Ok(_)));
            is_lost = matches!(heard, Ok(Ok(false)));
        }
        if is_lost {
            found.push(change);
        } else {
            app.registry().expect(now, change.node());
        }
    }
    let (now, registry) = (Instant::now(), app.registry());
    found.retain(|change| !registry.is_heard(now, change.node()));
    found
}

/// A publisher that was granted a session and went away before its first heartbeat, or whose end was not reported,
/// would otherwise be there for ever.
async fn end_denied(app: &App, nodes: &[String], now_ms: i64) -> Result<(), StoreError> {
    for node in nodes {
        for session in app.store.open_streams(node, now_ms.saturating_sub(UNREPORTED_MAX_MS)).await? {
            // Asked after the database, so that a session that has just begun is known here.
            if app.registry().denies(Instant::now(), node, &session) {
                tracing::debug!(node, session, "a session that its node does not have");
                app.store.end_stream(&session, EndReason::Unreported, now_ms).await?;
            }
        }
    }
    Ok(())
}

/// Why a heartbeat did not do everything that it says.
#[derive(Debug, Error)]
pub(crate) enum Unheard {
    /// It is not news.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// It is known now and was not written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a heartbeat and writes down what it changes, after the sessions that wait for it. Whoever sent it may give up meanwhile,
/// which ends this where it stands: then it is told again, as it is when the database takes too long.
pub(crate) async fn hear(
    app: &App,
    from: IpAddr,
    heartbeat: Heartbeat,
    (now, now_ms): (Instant, i64),
) -> Result<(), Unheard> {
    let node = heartbeat.node.clone();
    let classes: Vec<_> = heartbeat.streams.iter().map(|stream| stream.class.clone()).collect();
    let (changes, telling) = {
        let mut registry = app.registry();
        let changes = registry.on_heartbeat(now, from, heartbeat)?;
        (changes, registry.unsaved(&node))
    };
    // Pages do not wait for the database.
    app.lessons.tell(app, classes.iter().map(String::as_str));
    let written = async {
        openings::flush_or_leave(app).await?;
        apply(app, &changes, now, now_ms).await
    };
    tokio::time::timeout(HEARTBEAT_TIMEOUT, written).await.unwrap_or(Err(StoreError::Timeout))?;
    if let Some(telling) = telling {
        app.registry().on_saved(&node, telling);
    }
    Ok(())
}

/// Writes changes of the registry into the database. Those that it does not take will be told again.
async fn apply(app: &App, changes: &[Change], now: Instant, now_ms: i64) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let written = in_time(write(app, changes, now_ms)).await;
    if written.is_ok() {
        app.on_written();
    } else {
        changes.iter().for_each(|change| app.registry().on_unsaved(now, change.node()));
    }
    written
}

async fn write(app: &App, changes: &[Change], now_ms: i64) -> Result<(), StoreError> {
    let mut reports = Vec::new();
    for change in changes {
        match change {
            Change::Stream { report, .. } => reports.push(report),
            Change::Restarted { node, started_at_ms } => {
                let before_ms = i64::try_from(*started_at_ms).unwrap_or(i64::MAX);
                app.store.end_node(node, before_ms, EndReason::NodeRestarted, now_ms).await?;
            }
            Change::Lost { node } => {
                app.store.end_node(node, i64::MAX, EndReason::NodeLost, now_ms).await?;
            }
        }
    }
    if reports.is_empty() { Ok(()) } else { app.store.update_streams(&reports, now_ms).await }
}

async fn in_time(asked: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(StoreError::Timeout))
}

#[cfg(test)]
mod tests;
