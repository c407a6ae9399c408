//! All streams by name.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::epoch::Epoch;
use crate::keyframe::Keyframe;
use crate::publisher::{Feed, Publisher, Relay};
use crate::queue::Subscription;
use crate::stats::Stats;
use crate::stream::{State, Status, Stream};

/// The bounds of a hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that may exist at once.
    pub streams_max: usize,
    /// How long a stream waits for a publisher that vanished.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams_max: 1024, grace: Duration::from_secs(60) }
    }
}

/// Why somebody cannot feed a stream.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The hub carries as many streams as it may.
    #[error("this node already carries {streams_max} streams")]
    Full {
        /// The bound that was reached.
        streams_max: usize,
    },
    /// A later publisher of the same stream is known already.
    #[error("another publisher has taken over the stream")]
    Superseded,
}

/// Tells everybody who waits for it that a stream has appeared, changed or gone.
#[derive(Debug)]
pub(crate) struct Bell(watch::Sender<()>);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.send_replace(());
    }
}

/// Hears of changes of any stream.
#[derive(Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Waits until a stream has appeared, changed or gone since this was asked before.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The hub is no more, and nothing changes.
            std::future::pending::<()>().await;
        }
    }
}

/// The streams of this process; clones share them.
#[derive(Clone, Debug)]
pub struct Hub {
    streams: Arc<Mutex<BTreeMap<String, Arc<Mutex<Stream>>>>>,
    bell: Arc<Bell>,
    limits: Limits,
    stats: Stats,
    clock: Clock,
}

impl Hub {
    /// An empty hub.
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Clock::default())
    }

    /// An empty hub that lives by another clock than the machine's.
    pub fn with_clock(limits: Limits, clock: Clock) -> Self {
        Self {
            streams: Arc::default(),
            bell: Arc::new(Bell(watch::Sender::new(()))),
            limits,
            stats: Stats::default(),
            clock,
        }
    }

    /// How often the bounds were reached.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Opens a new epoch of the stream `name`, which is created if there is none, and takes it over if there is one. The number
    /// is the coordinator's, and greater than all before.
    pub fn publish(&self, name: &str, session: &str, epoch: u64) -> Result<Publisher, Refused> {
        let now = self.clock.now();
        // Under both locks throughout: a stream that is swept in between would be fed for nobody.
        let mut streams = self.lock();
        let stream = self.open(&mut streams, name, now, |stream| epoch > stream.epoch)?;
        let mut inner = lock(&stream);
        inner.begin_epoch(epoch, session, now);
        let (origin, resume_after) = (inner.origin, inner.latest.unwrap_or_default());
        let feed = self.feed(&stream, &inner);
        Ok(Publisher { feed, origin, resume_after })
    }

    /// Passes on an epoch of the stream `name` that another node has: a newer one than is known here, or the same from wherever
    /// it was passed on before.
    pub fn relay(&self, name: &str, epoch: &Epoch) -> Result<Relay, Refused> {
        let mut streams = self.lock();
        let is_admitted = |stream: &Stream| {
            epoch.number > stream.epoch || (epoch.number == stream.epoch && stream.is_relayed)
        };
        let stream = self.open(&mut streams, name, epoch.timeline.zero, is_admitted)?;
        let mut inner = lock(&stream);
        inner.begin_relay(epoch, self.clock.now());
        let feed = self.feed(&stream, &inner);
        Ok(Relay { feed })
    }

    /// Somebody publishes the stream elsewhere, as this epoch: who publishes it here is told to go, and the stream waits.
    pub fn supersede(&self, name: &str, epoch: u64) {
        if let Some(stream) = self.lock().get(name).cloned() {
            lock(&stream).supersede(epoch, self.clock.now());
            self.bell.ring();
        }
    }

    /// Whoever publishes with this key may not do so any more and is told to go; the stream waits for somebody else.
    pub fn revoke(&self, key: &str) {
        let streams: Vec<_> = self.lock().values().cloned().collect();
        let now = self.clock.now();
        let revoke = |stream: &Arc<Mutex<Stream>>| {
            let mut stream = lock(stream);
            stream.key == key && stream.revoke(now)
        };
        if streams.iter().filter(|stream| revoke(stream)).count() > 0 {
            self.bell.ring();
        }
    }

    /// Ends a stream that comes from another node if nobody takes it here any more. False if somebody does, or feeds it himself.
    pub fn release(&self, relay: &Relay) -> bool {
        self.end_if(relay, |stream| stream.subscribers() == 0)
    }

    /// Ends a stream that comes from another node: it is over there.
    pub fn end(&self, relay: &Relay) {
        self.end_if(relay, |_| true);
    }

    fn end_if(&self, relay: &Relay, is_over: impl Fn(&Stream) -> bool) -> bool {
        let mut streams = self.lock();
        let ended = relay.feed.with(|stream| {
            let is_over = is_over(stream);
            if is_over {
                stream.close();
                streams.remove(&stream.name);
            }
            is_over
        });
        drop(streams);
        self.bell.ring();
        ended.unwrap_or(false)
    }

    /// The stream of this name if it may be fed, or a new one whose media time is zero at `origin`.
    fn open(
        &self,
        streams: &mut BTreeMap<String, Arc<Mutex<Stream>>>,
        name: &str,
        origin: Instant,
        is_admitted: impl Fn(&Stream) -> bool,
    ) -> Result<Arc<Mutex<Stream>>, Refused> {
        if let Some(stream) = streams.get(name) {
            return if is_admitted(&lock(stream)) {
                Ok(Arc::clone(stream))
            } else {
                Err(Refused::Superseded)
            };
        }
        if streams.len() >= self.limits.streams_max {
            self.stats.on_stream_refused();
            return Err(Refused::Full { streams_max: self.limits.streams_max });
        }
        let stream = Arc::new(Mutex::new(Stream::new(name, origin, self.clock.now(), self.stats.clone())));
        streams.insert(name.to_owned(), Arc::clone(&stream));
        Ok(stream)
    }

    fn feed(&self, stream: &Arc<Mutex<Stream>>, inner: &Stream) -> Feed {
        self.bell.ring();
        Feed {
            stream: Arc::clone(stream),
            superseded: inner.superseded.clone(),
            revoked: inner.revoked.clone(),
            bell: Arc::clone(&self.bell),
            clock: self.clock.clone(),
        }
    }

    /// Subscribes to a stream that exists.
    pub fn subscribe(&self, name: &str) -> Option<Subscription> {
        // Under both locks: a stream that is swept in between would never close the subscription.
        let streams = self.lock();
        let subscription = lock(streams.get(name)?).subscribe();
        Some(subscription)
    }

    /// The newest keyframe of a stream, while its publisher sends a picture. Nothing is copied.
    pub fn keyframe(&self, name: &str) -> Option<Keyframe> {
        let stream = Arc::clone(self.lock().get(name)?);
        lock(&stream).keyframe()
    }

    /// What one stream says of itself.
    pub fn status(&self, name: &str) -> Option<Status> {
        let stream = Arc::clone(self.lock().get(name)?);
        let status = lock(&stream).status(self.clock.now());
        Some(status)
    }

    /// What every stream says of itself.
    pub fn statuses(&self) -> Vec<Status> {
        let now = self.clock.now();
        let streams: Vec<_> = self.lock().values().cloned().collect();
        streams.iter().map(|stream| lock(stream).status(now)).collect()
    }

    /// Forgets the streams whose grace period is over and returns what they last said of themselves.
    pub fn sweep(&self, now: Instant) -> Vec<Status> {
        let mut removed = Vec::new();
        self.lock().retain(|_, stream| {
            let mut stream = lock(stream);
            let waited = now.saturating_duration_since(stream.state_since);
            let keep = stream.state != State::Grace || waited < self.limits.grace;
            if !keep {
                removed.push(stream.status(now));
                stream.close();
            }
            keep
        });
        if !removed.is_empty() {
            self.bell.ring();
        }
        removed
    }

    /// Hears of every change from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.bell.0.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Stream>>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}
