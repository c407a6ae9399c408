//! Faults on demand, to test how the process deals with them. Only builds with debug assertions have any.
//!
//! `LECTERN_FAULT=panic:ingest,hang:reporter`: at SIGUSR2 the ingest role panics, and the reporter never ends.
//! `LECTERN_FAULT=panic:shard`: at SIGUSR2 the first thread of the egress engine panics.
#[cfg(debug_assertions)]
use std::convert::Infallible;
use std::fmt::Display;

#[cfg(debug_assertions)]
use tokio::signal::unix::{SignalKind, signal};
#[cfg(debug_assertions)]
use tokio_util::sync::CancellationToken;

/// Runs a role, and does to it what the environment asks for.
#[cfg(not(debug_assertions))]
pub(crate) async fn inject<E: Display>(
    _: &'static str,
    role: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    role.await
}

/// Runs a role, and does to it what the environment asks for.
#[cfg(debug_assertions)]
pub(crate) async fn inject<E: Display>(
    name: &'static str,
    role: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let Some(kind) = asked_for(name) else { return role.await };
    let mut trigger = signal(SignalKind::user_defined2()).expect("a debug build may watch a signal");
    let role = async {
        let outcome = role.await;
        if kind == "hang" {
            std::future::pending::<()>().await;
        }
        outcome
    };
    tokio::select! {
        outcome = role => outcome,
        _ = trigger.recv(), if kind != "hang" => match kind.as_str() {
            "panic" => panic!("LECTERN_FAULT"),
            _ => Ok(()),
        },
    }
}

/// What the environment asks for this role or part.
#[cfg(debug_assertions)]
pub(crate) fn asked_for(name: &str) -> Option<String> {
    let faults = std::env::var("LECTERN_FAULT").unwrap_or_default();
    let mut faults = faults.split(',').filter_map(|fault| fault.split_once(':'));
    faults.find(|(_, role)| *role == name).map(|(kind, _)| kind.to_owned())
}

/// Does `harm` at the signal, to a part that is no role, and waits for the drain.
#[cfg(debug_assertions)]
pub(crate) async fn harm_at_signal(harm: impl FnOnce(), drain: CancellationToken) -> Result<(), Infallible> {
    let mut trigger = signal(SignalKind::user_defined2()).expect("a debug build may watch a signal");
    tokio::select! {
        _ = trigger.recv() => harm(),
        () = drain.cancelled() => return Ok(()),
    }
    drain.cancelled().await;
    Ok(())
}
