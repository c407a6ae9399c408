//! Streams that are wanted here and published elsewhere.
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::Client;
use control::api::{Source, SourceRequest};
use hub::{Hub, State};
use link::{Link, PullEnd, Pulled};
use tokio_util::sync::CancellationToken;

/// How long a viewer waits for a stream to come: connecting, and the first group.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a stream that nobody takes is kept coming: a page that is loaded anew does not wait for it.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether anybody takes it, and whether its publisher has gone to another node.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to have it from somewhere.
const RETRY: Duration = Duration::from_millis(250);

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
        let mut last: Option<Pulled> = None;
        loop {
            match (self.connect().await, &last) {
                (Some(mut pulled), _) => {
                    let next = self.follow(&mut pulled, &mut last).await;
                    last = Some(pulled);
                    if let Next::Over = next {
                        return;
                    }
                }
                (None, None) => return,
                (None, Some(pulled)) => {
                    // Who watches is told, and the hub measures the time for which it waits.
                    let is_waiting = pulled.relay().is_some_and(|relay| relay.pause().is_ok());
                    if !is_waiting || self.subscribers() == 0 {
                        return;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Passes the stream on until something ends that. `before` is what it came by before: it is let go when this has taken over.
    async fn follow(&self, pulled: &mut Pulled, before: &mut Option<Pulled>) -> Next {
        let hub = self.pulls.hub();
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut idle_since: Option<Instant> = None;
        loop {
            let end = tokio::select! {
                end = pulled.run() => end,
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
                    if status.state == State::Grace
                        && self.find().await.is_some_and(|source| source.epoch > status.epoch)
                    {
                        return Next::Anew;
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

    /// Asks where the stream is.
    async fn find(&self) -> Option<Source> {
        let request = SourceRequest { node: self.pulls.link.node().to_owned(), class: self.class.clone() };
        match self.pulls.control.source(&request).await {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(class = self.class, %error, "nobody can be asked where a stream is");
                None
            }
        }
    }

    /// Asks for the stream where it is.
    async fn connect(&self) -> Option<Pulled> {
        let source = self.find().await?;
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
