//! Streams that are wanted here and published elsewhere.
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::Client;
use control::api::{Source, SourceRequest};
use hub::{Hub, State};
use link::{Link, PullEnd, Pulled};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a viewer waits for a stream to come: connecting, and the first group.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a stream that nobody takes is kept coming: a page that is loaded anew does not wait for it.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether anybody takes it, and whether its publisher has gone to another node.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to have it from somewhere, at first and at last.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Pulls what viewers of this node want; clones share the streams.
#[derive(Clone, Debug)]
pub struct Pulls {
    link: Link,
    control: Client,
    /// Classes whose streams are being pulled, or looked for.
    wanted: Arc<Mutex<HashMap<String, CancellationToken>>>,
    drain: CancellationToken,
}

/// A class that is wanted, until this is dropped.
struct Wanted {
    pulls: Pulls,
    class: String,
    over: CancellationToken,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.pulls.lock().remove(&self.class);
        self.over.cancel();
    }
}

impl Pulls {
    /// Of none yet. Ends when drained.
    pub fn new(link: Link, control: Client, drain: CancellationToken) -> Self {
        Self { link, control, wanted: Arc::default(), drain }
    }

    fn hub(&self) -> &Hub {
        self.link.hub()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to pull a stream unless that has begun. Cancelled when it is pulled no longer.
    pub(crate) fn want(&self, class: &str) -> CancellationToken {
        let mut wanted = self.lock();
        if let Some(over) = wanted.get(class) {
            return over.clone();
        }
        let over = CancellationToken::new();
        wanted.insert(class.to_owned(), over.clone());
        let wanted = Wanted { pulls: self.clone(), class: class.to_owned(), over: over.clone() };
        let drain = self.drain.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = wanted.pull() => {}
                () = drain.cancelled() => {}
            }
        });
        over
    }

    /// Asks where the stream is.
    async fn find(&self, class: &str) -> Option<Source> {
        let request = SourceRequest { node: self.link.node().to_owned(), class: class.to_owned() };
        match self.control.source(&request).await {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(class, %error, "nobody can be asked where a stream is");
                None
            }
        }
    }

    async fn wait(&self, class: &str) {
        let mut changes = self.hub().changes();
        let over = self.want(class);
        let is_there = || self.hub().status(class).is_some_and(|status| status.state == State::Active);
        let arrival = async {
            while !is_there() {
                changes.next().await;
            }
        };
        tokio::select! {
            () = arrival => {}
            () = over.cancelled() => {}
            () = tokio::time::sleep(WAIT_MAX) => {}
        }
    }
}

impl hub::Source for Pulls {
    fn ensure<'a>(&'a self, class: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.wait(class))
    }
}

/// What is next for a stream that was pulled.
enum Next {
    /// It is to be had from wherever it is now.
    Anew,
    /// It is not wanted here, or it is over.
    Over,
}

impl Wanted {
    /// Has the stream come for as long as it is wanted, from wherever it is.
    async fn pull(&self) {
        let begun = Instant::now();
        // What came before stays until the next has taken over: with it the stream stays in the hub.
        let mut last: Option<Pulled> = None;
        let mut retry = RETRY_MIN;
        loop {
            let source = self.pulls.find(&self.class).await;
            if source.is_none() && last.is_none() {
                return;
            }
            if let Some(source) = source
                && let Some(mut pulled) = self.connect(source).await
            {
                if let Next::Over = self.follow(&mut pulled, &mut last).await {
                    return;
                }
                if pulled.relay().is_some() {
                    (last, retry) = (Some(pulled), RETRY_MIN);
                }
            }
            let goes_on = match last.as_ref().and_then(Pulled::relay) {
                // Who watches is told, and the hub measures the time for which it waits.
                Some(relay) => relay.pause().is_ok() && self.subscribers() > 0,
                // It never came, and nobody waits for it any longer.
                None => begun.elapsed() < WAIT_MAX,
            };
            if !goes_on {
                return;
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// Passes the stream on until something ends that. `before` is what it came by before: it is let go when this has taken over.
    async fn follow(&self, pulled: &mut Pulled, before: &mut Option<Pulled>) -> Next {
        let hub = self.pulls.hub();
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut idle_since: Option<Instant> = None;
        let mut finding: JoinSet<Option<Source>> = JoinSet::new();
        loop {
            let end = tokio::select! {
                end = pulled.run() => end,
                Some(Ok(found)) = finding.join_next(), if !finding.is_empty() => {
                    let known = hub.status(&self.class).map_or(0, |status| status.epoch);
                    if found.is_some_and(|source| source.epoch > known) {
                        return Next::Anew;
                    }
                    continue;
                }
                _ = looks.tick() => {
                    let (Some(relay), Some(status)) = (pulled.relay(), hub.status(&self.class)) else { continue };
                    *before = None;
                    if status.subscribers > 0 {
                        idle_since = None;
                    } else if idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE_MAX && hub.release(relay) {
                        tracing::info!(class = self.class, "nobody takes a stream any more: it is pulled no longer");
                        return Next::Over;
                    }
                    // It may publish at another node by now.
                    if status.state == State::Grace && finding.is_empty() {
                        let (pulls, class) = (self.pulls.clone(), self.class.clone());
                        finding.spawn(async move { pulls.find(&class).await });
                    }
                    continue;
                }
            };
            tracing::info!(class = self.class, reason = %end, "a pull has ended");
            let is_published_here = || hub.status(&self.class).is_some_and(|status| !status.is_relayed);
            return match end {
                PullEnd::Ended | PullEnd::Full(_) => Next::Over,
                PullEnd::Superseded if is_published_here() => Next::Over,
                _ => Next::Anew,
            };
        }
    }

    fn subscribers(&self) -> usize {
        self.pulls.hub().status(&self.class).map_or(0, |status| status.subscribers)
    }

    /// Asks for the stream where it is.
    async fn connect(&self, source: Source) -> Option<Pulled> {
        let Some(address) = self.pulls.control.resolve(source.host, source.port).await else {
            tracing::warn!(
                class = self.class,
                node = source.node,
                "the node that has a stream has no address"
            );
            return None;
        };
        match self.pulls.link.pull(&self.class, &source.node, address).await {
            Ok(pulled) => {
                tracing::info!(class = self.class, node = source.node, %address, "a stream is pulled");
                Some(pulled)
            }
            Err(error) => {
                tracing::warn!(class = self.class, node = source.node, %error, "a stream cannot be pulled");
                None
            }
        }
    }
}
