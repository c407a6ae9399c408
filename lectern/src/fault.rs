//! Faults on demand, to test how the process deals with them. Only builds with debug assertions have any.
//!
//! `LECTERN_FAULT=panic:ingest,hang:reporter`: at SIGUSR2 the ingest role panics, and the reporter never ends.
use std::fmt::Display;

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
    use tokio::signal::unix::{SignalKind, signal};

    let faults = std::env::var("LECTERN_FAULT").unwrap_or_default();
    let fault = faults.split(',').filter_map(|fault| fault.split_once(':')).find(|(_, role)| *role == name);
    let Some((kind, _)) = fault else { return role.await };
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
        _ = trigger.recv(), if kind != "hang" => match kind {
            "panic" => panic!("LECTERN_FAULT"),
            _ => Ok(()),
        },
    }
}
