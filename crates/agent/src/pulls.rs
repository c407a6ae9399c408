//! Streams that are wanted here and published elsewhere: the loops around [`Follow`].
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use control::Client;
use control::api::{Source, SourceRequest};
use hub::{Hub, Relay, State};
use link::{Link, PullEnd, Pulled};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::follow::{Act, Follow, Seen, WAIT_MAX};

/// Pulls what viewers of this node want; clones share the streams.
#[derive(Clone, Debug)]
pub struct Pulls {
    link: Link,
    control: Client,
    /// Classes whose streams are being pulled, or looked for.
    wanted: Arc<Mutex<HashMap<String, Known>>>,
    drain: CancellationToken,
}

/// What is known of a class whose stream is being pulled, or looked for.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Cancelled when it is pulled no longer.
    over: CancellationToken,
    /// A coordinator says that it is published elsewhere by now.
    superseded: Arc<Notify>,
}

/// A class that is wanted, until this is dropped.
struct Wanted {
    pulls: Pulls,
    class: String,
    known: Known,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.pulls.lock().remove(&self.class);
        self.known.over.cancel();
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to pull a stream unless that has begun.
    fn want(&self, class: &str) -> Known {
        let mut wanted = self.lock();
        if let Some(known) = wanted.get(class) {
            return known.clone();
        }
        let known = Known::default();
        wanted.insert(class.to_owned(), known.clone());
        let wanted = Wanted { pulls: self.clone(), class: class.to_owned(), known: known.clone() };
        let drain = self.drain.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = wanted.run() => {}
                () = drain.cancelled() => {}
            }
        });
        known
    }

    /// A stream that is watched here is published elsewhere by now, whichever way it has come until then.
    pub(crate) fn on_superseded(&self, class: &str) {
        self.want(class).superseded.notify_one();
    }

    /// Asks where the stream is.
    async fn find(&self, class: &str, failed: Option<String>) -> Option<Source> {
        let (node, class_name) = (self.link.node().to_owned(), class.to_owned());
        let request = SourceRequest { node, class: class_name, failed };
        match self.control.source(&request).await {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(class, %error, "nobody can be asked where a stream is");
                None
            }
        }
    }

    /// Asks for the stream where it is.
    async fn connect(&self, class: &str, source: Source) -> Result<Pulled, PullEnd> {
        let Source { node, host, port, .. } = source;
        let Some(address) = self.control.resolve(host, port).await else {
            return Err(PullEnd::Lost(format!("the node {node} has no address")));
        };
        let pulled = self.link.pull(class, &node, address).await?;
        tracing::info!(class, node, %address, "a stream is pulled");
        Ok(pulled)
    }

    async fn wait(&self, class: &str) {
        let mut changes = self.hub().changes();
        let Known { over, .. } = self.want(class);
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

/// What one stream comes by.
#[derive(Default)]
struct Held {
    /// Asked for and not yet there.
    connecting: JoinSet<Result<Pulled, PullEnd>>,
    present: Option<Pulled>,
    former: Option<Pulled>,
}

impl Held {
    /// How the present pull ends, whether or not it ever begins.
    async fn end(&mut self) -> PullEnd {
        loop {
            if let Some(pulled) = &mut self.present {
                return pulled.run().await;
            }
            match self.connecting.join_next().await {
                Some(Ok(Ok(pulled))) => self.present = Some(pulled),
                Some(Ok(Err(end))) => return end,
                Some(Err(_)) => return PullEnd::Lost("connecting was given up".to_owned()),
                None => std::future::pending().await,
            }
        }
    }

    fn relay(&self) -> Option<&Relay> {
        self.present.as_ref().and_then(Pulled::relay)
    }
}

impl Wanted {
    /// Has the stream come for as long as it is wanted, from wherever it is.
    async fn run(&self) {
        let (mut follow, mut held) = (Follow::new(Instant::now()), Held::default());
        let mut finding: JoinSet<Option<Source>> = JoinSet::new();
        loop {
            while let Some(act) = follow.poll() {
                match act {
                    Act::Find(failed) => {
                        let (pulls, class) = (self.pulls.clone(), self.class.clone());
                        finding.spawn(async move { pulls.find(&class, failed).await });
                    }
                    Act::Pull(source) => {
                        let (pulls, class) = (self.pulls.clone(), self.class.clone());
                        held.connecting.spawn(async move { pulls.connect(&class, source).await });
                    }
                    Act::Keep => {
                        held.former = held.present.take();
                        held.connecting = JoinSet::new();
                    }
                    Act::Drop => {
                        held.present = None;
                        held.connecting = JoinSet::new();
                    }
                    Act::DropFormer => held.former = None,
                    Act::Pause => {
                        let relay = held.former.as_ref().and_then(Pulled::relay);
                        if relay.is_none_or(|relay| relay.pause().is_err()) {
                            follow.on_gone();
                        }
                    }
                    Act::Release => {
                        if held.relay().is_some_and(|relay| self.pulls.hub().release(relay)) {
                            tracing::info!(
                                class = self.class,
                                "nobody takes a stream any more: it is pulled no longer"
                            );
                            follow.on_gone();
                        }
                    }
                    Act::End => return,
                }
            }
            let deadline = follow.deadline();
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                end = held.end() => {
                    tracing::info!(class = self.class, reason = %end, "a pull has ended");
                    follow.on_pull_end(Instant::now(), &end, &self.seen(&held));
                }
                Some(found) = finding.join_next(), if !finding.is_empty() => {
                    follow.on_found(Instant::now(), found.unwrap_or_default(), &self.seen(&held));
                }
                () = self.known.superseded.notified() => follow.on_superseded(),
                () = late => follow.on_timeout(Instant::now(), &self.seen(&held)),
            }
        }
    }

    fn seen(&self, held: &Held) -> Seen {
        Seen { status: self.pulls.hub().status(&self.class), is_passing: held.relay().is_some() }
    }
}
