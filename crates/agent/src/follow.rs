//! One stream that is wanted here and published elsewhere: where to get it from, for how long, and what is next when it comes no
//! more. A machine without a clock or a socket.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use control::api::Source;
use hub::{State, Status};
use link::PullEnd;

/// How long a viewer waits for a stream to come: connecting, and the first group.
pub const WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a stream that nobody takes is kept coming: a page that is loaded anew does not wait for it.
pub const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether anybody takes it, and whether its publisher is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A coordinator is asked as often where a publisher has gone who is gone for less than this, and later once in this time.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stream that is live elsewhere may wait for its publisher here before it is to come by another way.
const FORSAKEN_AFTER: Duration = Duration::from_secs(3);
/// Between two attempts to have it from somewhere, at first and at last.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What is to be done, in this order. A pull is what the stream comes by; at most two are held: the present one, and the one before
/// it, with which the stream stays in the hub until the present one has taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask a coordinator where the stream is: it could not be had from this node.
    Find(Option<String>),
    /// Pull it from there: that is the present pull.
    Pull(Source),
    /// The present pull becomes the one before; what was that is let go.
    Keep,
    /// The present pull is let go.
    Drop,
    /// The pull before is let go.
    DropFormer,
    /// Who watches is told that the stream waits: by the pull before.
    Pause,
    /// End the stream that the present pull passes on, unless somebody takes it by now.
    Release,
    /// The stream is not wanted any more, or over.
    End,
}

/// What the machine is to know of the stream at this node.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the hub says of it.
    pub status: Option<Status>,
    /// The present pull passes it on.
    pub is_passing: bool,
}

impl Seen {
    fn subscribers(&self) -> usize {
        self.status.as_ref().map_or(0, |status| status.subscribers)
    }

    fn epoch(&self) -> u64 {
        self.status.as_ref().map_or(0, |status| status.epoch)
    }

    /// Whether it has been without its publisher for so long.
    fn has_waited(&self, time: Duration) -> bool {
        self.status.as_ref().is_some_and(|status| status.state == State::Grace && status.since >= time)
    }

    fn is_published_here(&self) -> bool {
        self.status.as_ref().is_some_and(|status| !status.is_relayed)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A coordinator is asked where it is.
    Finding,
    /// It comes, or is about to.
    Pulling {
        idle_since: Option<Instant>,
        next_look: Instant,
        is_finding: bool,
        asked: Instant,
        begun: Instant,
    },
    /// It is tried again then.
    Waiting {
        until: Instant,
    },
    Ended,
}

/// One stream, from the moment that somebody wants it.
#[derive(Debug)]
pub struct Follow {
    begun: Instant,
    step: Step,
    retry: Duration,
    /// A pull from before is held.
    has_former: bool,
    /// The node that the present pull is from, and the one that the last was from if that came to nothing.
    from: String,
    failed: Option<String>,
    acts: VecDeque<Act>,
}

impl Follow {
    /// Somebody wants it.
    pub fn new(now: Instant) -> Self {
        let (acts, from, failed) = (VecDeque::from([Act::Find(None)]), String::new(), None);
        Self { begun: now, step: Step::Finding, retry: RETRY_MIN, has_former: false, from, failed, acts }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// A coordinator says where it is, or that it is nowhere; or nobody could be asked.
    pub fn on_found(&mut self, now: Instant, found: Option<Source>, seen: &Seen) {
        match (&mut self.step, found) {
            (Step::Finding, Some(source)) => self.pull(now, source),
            (Step::Finding, None) if self.has_former => self.try_again(now, seen),
            (Step::Finding, None) => self.end(),
            (Step::Pulling { is_finding, begun, .. }, found) => {
                *is_finding = false;
                // A node that does not have it yet, or that is just being connected to, will say so itself.
                let is_under_way = |source: &Source| source.node == self.from && now < *begun + ASK_INTERVAL;
                let Some(source) = found.filter(|source| !is_under_way(source)) else { return };
                if source.epoch > seen.epoch() {
                    self.let_go(seen);
                    self.pull(now, source);
                } else if source.is_live && seen.has_waited(FORSAKEN_AFTER) {
                    // It is there and does not come this way.
                    self.failed = Some(std::mem::take(&mut self.from));
                    self.leave(now, seen);
                }
            }
            (Step::Waiting { .. } | Step::Ended, _) => {}
        }
    }

    /// The present pull has ended, or has never begun.
    pub fn on_pull_end(&mut self, now: Instant, end: &PullEnd, seen: &Seen) {
        match end {
            PullEnd::Ended | PullEnd::Full(_) => self.end(),
            PullEnd::Superseded if seen.is_published_here() => self.end(),
            end => {
                let is_of_node = !matches!(end, PullEnd::Superseded);
                self.failed = is_of_node.then(|| std::mem::take(&mut self.from));
                self.leave(now, seen);
            }
        }
    }

    /// What was to be paused or released is somebody else's by now, or was released.
    pub fn on_gone(&mut self) {
        self.end();
    }

    /// A coordinator says that it is published elsewhere by now.
    pub fn on_superseded(&mut self) {
        if let Step::Pulling { is_finding, .. } = &mut self.step
            && !std::mem::replace(is_finding, true)
        {
            self.acts.push_back(Act::Find(None));
        }
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant, seen: &Seen) {
        match &mut self.step {
            Step::Waiting { until } if *until <= now => {
                self.step = Step::Finding;
                self.acts.push_back(Act::Find(self.failed.take()));
            }
            Step::Pulling { idle_since, next_look, is_finding, asked, .. } if *next_look <= now => {
                *next_look = now + LOOK_INTERVAL;
                let Some(status) = seen.status.as_ref().filter(|_| seen.is_passing) else { return };
                if std::mem::take(&mut self.has_former) {
                    self.acts.push_back(Act::DropFormer);
                }
                if status.subscribers > 0 {
                    *idle_since = None;
                } else if now.saturating_duration_since(*idle_since.get_or_insert(now)) >= IDLE_MAX {
                    self.acts.push_back(Act::Release);
                }
                // It may publish at another node by now.
                let is_due = status.since < ASK_INTERVAL || *asked + ASK_INTERVAL <= now;
                if status.state == State::Grace && is_due && !std::mem::replace(is_finding, true) {
                    *asked = now;
                    self.acts.push_back(Act::Find(None));
                }
            }
            _ => {}
        }
    }

    /// When [`Self::on_timeout`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Pulling { next_look, .. } => Some(next_look),
            Step::Waiting { until } => Some(until),
            Step::Finding | Step::Ended => None,
        }
    }

    /// The present pull is of no use: the stream is to be had from wherever it is now.
    fn leave(&mut self, now: Instant, seen: &Seen) {
        self.let_go(seen);
        self.try_again(now, seen);
    }

    /// The present pull makes room, and is kept as the one before if it is what the stream comes by.
    fn let_go(&mut self, seen: &Seen) {
        if seen.is_passing {
            self.acts.push_back(Act::Keep);
            (self.has_former, self.retry) = (true, RETRY_MIN);
        } else {
            self.acts.push_back(Act::Drop);
        }
    }

    fn pull(&mut self, now: Instant, source: Source) {
        self.from.clone_from(&source.node);
        self.acts.push_back(Act::Pull(source));
        let next_look = now + LOOK_INTERVAL;
        self.step = Step::Pulling { idle_since: None, next_look, is_finding: false, asked: now, begun: now };
    }

    fn try_again(&mut self, now: Instant, seen: &Seen) {
        let goes_on = if self.has_former {
            // The hub measures the time for which it waits.
            self.acts.push_back(Act::Pause);
            seen.subscribers() > 0
        } else {
            // It never came, and nobody waits for it any longer.
            now.saturating_duration_since(self.begun) < WAIT_MAX
        };
        if goes_on {
            self.step = Step::Waiting { until: now + self.retry };
            self.retry = (self.retry * 2).min(RETRY_MAX);
        } else {
            self.end();
        }
    }

    fn end(&mut self) {
        if !matches!(self.step, Step::Ended) {
            self.step = Step::Ended;
            self.acts.push_back(Act::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use hub::{Clock, Epoch, Hub, Limits, Timeline};

    use super::*;

    const CLASS: &str = "room101";

    /// Where a stream is, of the epoch that is known here.
    fn source(node: &str, is_live: bool) -> Source {
        Source { node: node.to_owned(), host: None, port: 1, epoch: 1, is_live, is_published: is_live }
    }

    /// A stream that comes from the node `parent`, which says after a second that its publisher is gone. What is asked next, when the
    /// coordinator says for so long that he is there, or is not.
    fn waits_for(time: Duration, is_live: bool) -> Vec<Act> {
        let (mut acts, finds) = asks_for(time, is_live);
        acts.retain(|act| *act != Act::Find(None));
        let seconds = usize::try_from(time.as_secs()).unwrap();
        // Three times in the first second, and then once a second.
        assert!((seconds + 2..=seconds + 3).contains(&finds), "asked {finds} times in {time:?}");
        acts
    }

    fn asks_for(time: Duration, is_live: bool) -> (Vec<Act>, usize) {
        let begun = Instant::now();
        let clock = Clock::by_hand(begun);
        let hub = Hub::with_clock(Limits::default(), clock.clone());
        let mut follow = Follow::new(begun);
        let seen = |is_passing| Seen { status: hub.status(CLASS), is_passing };
        follow.on_found(begun, Some(source("parent", true)), &seen(false));
        let timeline = Timeline { id: 1, zero: begun };
        let epoch = Epoch { number: 1, session: String::new(), timeline, path: vec!["parent".to_owned()] };
        let relay = hub.relay(CLASS, &epoch).unwrap();
        let _watching = hub.subscribe(CLASS).unwrap();
        relay.pause().unwrap();
        let mut now = begun;
        std::iter::from_fn(|| follow.poll()).for_each(drop);
        while now < begun + time {
            now += LOOK_INTERVAL;
            clock.set(now);
            follow.on_timeout(now, &seen(true));
            follow.on_found(now, Some(source("parent", is_live)), &seen(true));
        }
        let mut acts: Vec<Act> = std::iter::from_fn(|| follow.poll()).collect();
        let finds = acts.iter().filter(|act| **act == Act::Find(None)).count();
        if let Some(due) = follow.deadline() {
            follow.on_timeout(due, &seen(false));
            acts.extend(std::iter::from_fn(|| follow.poll()));
        }
        (acts, finds)
    }

    #[test]
    fn a_relay_that_is_superseded_is_asked_for_once_at_a_time_and_left_for_a_newer_one() {
        let begun = Instant::now();
        let mut follow = Follow::new(begun);
        follow.on_superseded();
        follow.on_found(begun, Some(source("parent", true)), &Seen { status: None, is_passing: true });
        std::iter::from_fn(|| follow.poll()).for_each(drop);
        follow.on_superseded();
        follow.on_superseded();
        assert_eq!(std::iter::from_fn(|| follow.poll()).collect::<Vec<_>>(), [Act::Find(None)]);
        let newer = Source { epoch: 2, ..source("other", true) };
        follow.on_found(begun, Some(newer.clone()), &Seen { status: None, is_passing: true });
        let acts: Vec<Act> = std::iter::from_fn(|| follow.poll()).collect();
        assert_eq!(acts, [Act::Keep, Act::Pull(newer.clone())], "at once, and the one before is held");
        for (after, expected) in [(ASK_INTERVAL / 2, 0), (ASK_INTERVAL, 2)] {
            follow.on_found(begun + after, Some(newer.clone()), &Seen { status: None, is_passing: true });
            let acts = std::iter::from_fn(|| follow.poll()).count();
            assert_eq!(acts, expected, "{after:?} after it was asked for there");
        }
    }

    #[test]
    fn a_stream_that_is_live_and_does_not_come_this_way_is_asked_for_anew() {
        let anew = [Act::Keep, Act::Pause, Act::Find(Some("parent".to_owned()))];
        assert_eq!(waits_for(FORSAKEN_AFTER, true), anew);
        assert_eq!(waits_for(FORSAKEN_AFTER - LOOK_INTERVAL, true), [], "it may be back by itself");
        assert_eq!(waits_for(FORSAKEN_AFTER * 5, false), [], "its publisher is gone everywhere");
    }
}
