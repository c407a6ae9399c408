//! The roles of a process, run together: when one of them ends, the others are drained and the process ends.
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::time::Duration;

use thiserror::Error;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// When a role is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// First: what serves publishers and viewers.
    Serving,
    /// When those have ended: what writes down how, and tells operators.
    Record,
}

/// How long each stage may take to drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainLimits {
    /// For [`Stage::Serving`].
    pub serving: Duration,
    /// For [`Stage::Record`].
    pub record: Duration,
}

/// How a role ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned, though nobody had asked it to.
    Returned,
    /// It gave up.
    Failed(String),
    /// It panicked.
    Panicked,
}

impl Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => write!(f, "ended unexpectedly"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked => write!(f, "panicked"),
        }
    }
}

/// Why the process ends although nobody asked it to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the {role} role {end}")]
pub struct RoleEnded {
    /// Which.
    pub role: &'static str,
    /// How.
    pub end: End,
}

#[derive(Clone, Copy, Debug)]
struct Role {
    name: &'static str,
    stage: Stage,
}

/// Owns the roles.
#[derive(Debug)]
pub struct Supervisor {
    limits: DrainLimits,
    tasks: JoinSet<Result<(), String>>,
    running: HashMap<Id, Role>,
    serving: CancellationToken,
    record: CancellationToken,
    failed: CancellationToken,
    first_end: Option<RoleEnded>,
}

impl Supervisor {
    /// Of no roles yet.
    pub fn new(limits: DrainLimits) -> Self {
        Self {
            limits,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            serving: CancellationToken::new(),
            record: CancellationToken::new(),
            failed: CancellationToken::new(),
            first_end: None,
        }
    }

    /// Cancelled as soon as a role has ended that should not have: the process is not alive then.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Cancelled when a stage is to end.
    pub fn drain(&self, stage: Stage) -> CancellationToken {
        match stage {
            Stage::Serving => self.serving.clone(),
            Stage::Record => self.record.clone(),
        }
    }

    /// Runs a role until the token that it is given is cancelled.
    pub fn spawn<F, E>(&mut self, stage: Stage, name: &'static str, role: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let role = role(self.drain(stage));
        let task = self.tasks.spawn(async move { role.await.map_err(|error| format!("{error:#}")) });
        self.running.insert(task.id(), Role { name, stage });
    }

    /// Waits until `asked` is cancelled or a role ends; then drains what still runs, stage by stage. What has not ended
    /// in time is aborted.
    pub async fn run(mut self, asked: CancellationToken) -> Result<(), RoleEnded> {
        tokio::select! {
            () = asked.cancelled() => {}
            Some(joined) = self.tasks.join_next_with_id() => self.on_end(joined),
        }
        for (stage, limit) in [(Stage::Serving, self.limits.serving), (Stage::Record, self.limits.record)] {
            self.drain(stage).cancel();
            if tokio::time::timeout(limit, self.join(stage)).await.is_err() {
                let roles = self.names(stage).join(", ");
                tracing::error!(roles, ?limit, "shutdown timed out");
            }
        }
        self.first_end.map_or(Ok(()), Err)
    }

    async fn join(&mut self, stage: Stage) {
        while !self.names(stage).is_empty() {
            let Some(joined) = self.tasks.join_next_with_id().await else { return };
            self.on_end(joined);
        }
    }

    /// Those of a stage that have not ended.
    fn names(&self, stage: Stage) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.running.values().filter(|role| role.stage == stage).map(|role| role.name).collect();
        names.sort_unstable();
        names
    }

    fn on_end(&mut self, joined: Result<(Id, Result<(), String>), JoinError>) {
        let (id, end) = match joined {
            Ok((id, Ok(()))) => (id, End::Returned),
            Ok((id, Err(error))) => (id, End::Failed(error)),
            Err(error) => (error.id(), End::Panicked),
        };
        let Some(Role { name: role, stage }) = self.running.remove(&id) else { return };
        match &end {
            End::Returned if self.drain(stage).is_cancelled() => {
                tracing::debug!(role, "role drained");
                return;
            }
            End::Returned => tracing::error!(role, "role ended unexpectedly"),
            End::Failed(error) => tracing::error!(role, error, "role failed"),
            End::Panicked => tracing::error!(role, "role panicked"),
        }
        self.failed.cancel();
        self.first_end.get_or_insert(RoleEnded { role, end });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::sync::{Arc, Mutex};

    use tokio::time::Instant;

    use super::*;

    const LIMITS: DrainLimits =
        DrainLimits { serving: Duration::from_secs(3), record: Duration::from_secs(2) };
    type Journal = Arc<Mutex<Vec<&'static str>>>;

    /// A role that does as it should, and writes down when it ends.
    fn dutiful(supervisor: &mut Supervisor, stage: Stage, name: &'static str, ended: &Journal) {
        let ended = Arc::clone(ended);
        supervisor.spawn(stage, name, async move |drain: CancellationToken| {
            drain.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            ended.lock().unwrap().push(name);
            Ok::<(), Infallible>(())
        });
    }

    fn supervisor() -> (Supervisor, Journal) {
        let (mut supervisor, ended) = (Supervisor::new(LIMITS), Journal::default());
        dutiful(&mut supervisor, Stage::Record, "coordinator", &ended);
        dutiful(&mut supervisor, Stage::Serving, "whep", &ended);
        (supervisor, ended)
    }

    fn ended_unexpectedly(role: &'static str, end: End) -> Result<(), RoleEnded> {
        Err(RoleEnded { role, end })
    }

    /// What a supervisor logs while `run` runs.
    fn logged(run: impl Future<Output = ()>) -> impl Future<Output = String> {
        use tracing::instrument::WithSubscriber;

        #[derive(Clone, Default)]
        struct Text(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Text {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let text = Text::default();
        let writer = text.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        async move {
            run.with_subscriber(log).await;
            String::from_utf8(text.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_to_end_drains_the_coordinator_last() {
        let (supervisor, ended) = supervisor();
        let (asked, failed) = (CancellationToken::new(), supervisor.failed());
        asked.cancel();
        assert_eq!(supervisor.run(asked).await, Ok(()));
        assert_eq!(*ended.lock().unwrap(), ["whep", "coordinator"]);
        assert!(!failed.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_returns_early_ends_the_process() {
        let (mut supervisor, ended) = supervisor();
        supervisor.spawn(Stage::Serving, "ingest", async |_| Ok::<(), Infallible>(()));
        let failed = supervisor.failed();
        let log = logged(async {
            let outcome = supervisor.run(CancellationToken::new()).await;
            assert_eq!(outcome, ended_unexpectedly("ingest", End::Returned));
        });
        let log = log.await;
        assert!(log.contains("ERROR") && log.contains("role ended unexpectedly role=\"ingest\""), "{log}");
        assert!(failed.is_cancelled());
        assert_eq!(*ended.lock().unwrap(), ["whep", "coordinator"], "the others were drained");
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_fails_says_why() {
        let (mut supervisor, ended) = supervisor();
        supervisor.spawn(Stage::Record, "admin", async |_| Err(io::Error::other("no more ports")));
        let outcome = supervisor.run(CancellationToken::new()).await;
        assert_eq!(outcome, ended_unexpectedly("admin", End::Failed("no more ports".to_owned())));
        assert_eq!(*ended.lock().unwrap(), ["whep", "coordinator"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_panics_is_seen_at_once() {
        let (mut supervisor, _ended) = supervisor();
        supervisor.spawn(Stage::Serving, "ingest", async |_| -> Result<(), Infallible> { panic!("broken") });
        let (failed, begun) = (supervisor.failed(), Instant::now());
        let run = tokio::spawn(supervisor.run(CancellationToken::new()));
        failed.cancelled().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "the probe does not wait for the drain");
        assert_eq!(run.await.unwrap(), ended_unexpectedly("ingest", End::Panicked));
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_hangs_in_the_drain_is_named_and_left_behind() {
        let (mut supervisor, ended) = supervisor();
        supervisor.spawn(Stage::Serving, "ingest", |_| std::future::pending::<Result<(), Infallible>>());
        let (asked, begun) = (CancellationToken::new(), Instant::now());
        asked.cancel();
        let log = logged(async { assert_eq!(supervisor.run(asked).await, Ok(())) }).await;
        assert!(log.contains("shutdown timed out roles=\"ingest\""), "{log}");
        assert_eq!(begun.elapsed(), LIMITS.serving + Duration::from_secs(1));
        assert_eq!(*ended.lock().unwrap(), ["whep", "coordinator"], "the record is still closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_fails_in_the_drain_makes_it_a_failure() {
        let (mut supervisor, _ended) = supervisor();
        supervisor.spawn(Stage::Serving, "ingest", async |drain: CancellationToken| {
            drain.cancelled().await;
            Err(io::Error::other("half done"))
        });
        let asked = CancellationToken::new();
        asked.cancel();
        let outcome = supervisor.run(asked).await;
        assert_eq!(outcome, ended_unexpectedly("ingest", End::Failed("half done".to_owned())));
    }
}
