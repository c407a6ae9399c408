//! Ctrl-C: servers and viewers are process groups of their own, so somebody must end them.
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// How often sleepers look whether they are to stop.
const LOOK: Duration = Duration::from_millis(50);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on SIGINT and SIGTERM are noted instead of ending the process, until it ends.
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Relaxed);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("a thread")?;
    Ok(())
}

/// An error once somebody wants the end; whoever gets it ends what it has started on its way out.
pub(crate) fn check() -> anyhow::Result<()> {
    ensure!(!INTERRUPTED.load(Relaxed), "interrupted");
    Ok(())
}

/// Sleeps until then, unless somebody wants the end.
pub(crate) fn sleep_until(time: SystemTime) -> anyhow::Result<()> {
    while let Ok(left) = time.duration_since(SystemTime::now()) {
        check()?;
        std::thread::sleep(left.min(LOOK));
    }
    Ok(())
}
