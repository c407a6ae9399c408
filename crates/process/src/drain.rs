//! The end of a process, asked for by a signal or brought by that of another one, and the time before it in which what it has moves
//! elsewhere.
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process at once.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let drain = CancellationToken::new();
    let token = drain.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("shutting down");
        token.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(drain)
}

/// A token that the end of the standard input cancels. Whoever has started this process holds the other end of that pipe, and lets go
/// of it when it ends, however it does.
pub fn at_end_of_input() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let ended = token.clone();
    // A thread, which a read may hold up for ever: the process does not wait for it.
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        ended.cancel();
    })?;
    Ok(token)
}

/// Whether this process takes nothing new, because it is to end when what it has is gone; clones share it.
#[derive(Clone, Debug)]
pub struct Draining {
    /// Until when it waits for that.
    deadline: Arc<watch::Sender<Option<Instant>>>,
    /// For how long it does if nobody says.
    usual: Duration,
}

impl Draining {
    /// Not draining, and if it is to, for so long at most.
    pub fn new(usual: Duration) -> Self {
        Self { deadline: Arc::new(watch::Sender::new(None)), usual }
    }

    /// Takes nothing new from now on; whoever says it again changes the deadline.
    pub fn begin(&self, for_at_most: Option<Duration>) {
        self.deadline.send_replace(Some(Instant::now() + for_at_most.unwrap_or(self.usual)));
    }

    /// Goes on as before.
    pub fn undo(&self) {
        self.deadline.send_replace(None);
    }

    /// Until when it waits for what it has, if it drains.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.borrow()
    }

    /// Whether it drains.
    pub fn is_on(&self) -> bool {
        self.deadline().is_some()
    }

    /// Waits until it drains.
    pub async fn begun(&self) {
        // The sender lives as long as this does.
        let _ = self.deadline.subscribe().wait_for(Option::is_some).await;
    }

    /// For whoever waits for a change.
    pub fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.deadline.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    fn send_signal(name: &str, process: u32) {
        assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
    }

    /// Not a test but the process of one: it drains, and never comes to an end by itself.
    #[tokio::test]
    #[ignore = "no test: those below start it, in `cargo test`"]
    async fn a_process_that_hangs() {
        let drain = on_signal().unwrap();
        println!("listening");
        drain.cancelled().await;
        println!("draining");
        std::future::pending::<()>().await;
    }

    /// The exit code of that process after the same signal twice.
    fn signalled_twice(name: &str) -> Option<i32> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "drain::tests::a_process_that_hangs", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        for line in lines {
            if line.ends_with("listening") || line.ends_with("draining") {
                send_signal(name, child.id());
            }
        }
        child.wait().unwrap().code()
    }

    #[test]
    fn the_first_interrupt_drains_and_the_second_ends_at_once() {
        assert_eq!(signalled_twice("-INT"), Some(130));
    }

    #[test]
    fn the_first_termination_drains_and_the_second_ends_at_once() {
        assert_eq!(signalled_twice("-TERM"), Some(130));
    }
}
