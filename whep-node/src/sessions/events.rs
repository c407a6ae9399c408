//! What a session's viewer is told while it watches, if it has asked for that: WHEP's extension for server-sent events.
use std::time::{Duration, Instant};

use rtc::ViewerId;
use serde::Deserialize;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Session, SessionId, Sessions};

/// Events that wait for a viewer that does not read; more are dropped, for it will see for itself.
const WAITING_MAX: usize = 8;
/// A viewer that was told to go and is still here is told again after this time: the place may have been bad.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    /// Somebody publishes.
    Active,
    /// Nobody publishes at the moment.
    Inactive,
    /// The viewer is to go on at another endpoint.
    Reconnect,
}

impl EventKind {
    /// All of them, as a `Link` header lists them.
    pub(crate) const NAMES: &'static str = "active,inactive,reconnect";
    pub(crate) const COUNT: usize = 3;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentEvent {
    Active,
    Inactive,
    Reconnect { url: String },
}

impl SentEvent {
    pub(crate) fn kind(&self) -> EventKind {
        match self {
            Self::Active => EventKind::Active,
            Self::Inactive => EventKind::Inactive,
            Self::Reconnect { .. } => EventKind::Reconnect,
        }
    }
}

/// What a session has asked for.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    kinds: Vec<EventKind>,
    /// Who reads, if somebody does.
    reader: Option<Sender<SentEvent>>,
    /// When it was told to go.
    told: Option<Instant>,
    /// When somebody was asked where.
    asked: Option<Instant>,
}

/// A viewer that is to go to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) viewer: ViewerId,
    pub(crate) class: String,
    pub(crate) origin: Origin,
}

/// Who a viewer is to coordinators, and how it reached this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) user_id: String,
    pub(crate) scheme: &'static str,
    pub(crate) host: Option<String>,
}

impl Sessions {
    /// A viewer asks for these kinds. Returns whether there is such a session.
    pub(crate) fn subscribe(&self, class: &str, id: &SessionId, kinds: Vec<EventKind>) -> bool {
        let mut table = self.lock();
        let Some(viewer) = table.find(class, id) else { return false };
        let session = table.rows.get_mut(&viewer);
        session.is_some_and(|session| {
            session.events = Some(Box::new(Subscription { kinds, ..Subscription::default() }));
            true
        })
    }

    /// A viewer reads its events, as long as its session lives: `first` and what comes. Whoever read them before does so no longer.
    pub(crate) fn listen(
        &self,
        class: &str,
        id: &SessionId,
        first: &SentEvent,
    ) -> Option<Receiver<SentEvent>> {
        let mut table = self.lock();
        let viewer = table.find(class, id)?;
        let events = table.rows.get_mut(&viewer)?.events.as_mut()?;
        let (reader, waiting) = mpsc::channel(WAITING_MAX);
        events.reader = Some(reader);
        events.tell(first);
        Some(waiting)
    }

    /// Tells the viewers of a class something.
    pub(crate) fn tell_class(&self, class: &str, event: &SentEvent) {
        let table = self.lock();
        let of_class = table.rows.values().filter(|session| *session.class == *class);
        of_class.filter_map(|session| session.events.as_deref()).for_each(|events| _ = events.tell(event));
    }

    /// Some viewers that can be told to go to another node and have not been lately, first those for whom nobody has been asked, or
    /// not for longest: there may be no place for the others.
    pub(crate) fn leaving(&self, now: Instant, limit: usize) -> Vec<Leaving> {
        let mut table = self.lock();
        let is_due = |events: &Subscription| {
            events.reaches(EventKind::Reconnect)
                && events.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_AGAIN)
        };
        let mut due: Vec<(&ViewerId, &mut Session)> = table
            .rows
            .iter_mut()
            .filter(|(_, session)| !session.is_ending && session.events.as_deref().is_some_and(is_due))
            .collect();
        due.sort_unstable_by_key(|(_, session)| session.events.as_deref().and_then(|events| events.asked));
        due.truncate(limit);
        let leave = |(viewer, session): (&ViewerId, &mut Session)| {
            session.events.iter_mut().for_each(|events| events.asked = Some(now));
            Leaving { viewer: *viewer, class: session.class.to_string(), origin: session.origin.clone() }
        };
        due.into_iter().map(leave).collect()
    }

    /// Tells a viewer to go on elsewhere.
    pub(crate) fn send_away(&self, now: Instant, viewer: ViewerId, url: String) {
        let mut table = self.lock();
        let events = table.rows.get_mut(&viewer).and_then(|session| session.events.as_mut());
        if let Some(events) = events.filter(|events| events.tell(&SentEvent::Reconnect { url })) {
            events.told = Some(now);
        }
    }

    /// The viewers that were told to go may stay.
    pub(crate) fn nobody_leaves(&self) {
        let mut table = self.lock();
        let events = table.rows.values_mut().filter_map(|session| session.events.as_mut());
        events.for_each(|events| events.told = None);
    }
}

impl Subscription {
    fn reaches(&self, kind: EventKind) -> bool {
        self.kinds.contains(&kind) && self.reader.as_ref().is_some_and(|reader| !reader.is_closed())
    }

    fn tell(&self, event: &SentEvent) -> bool {
        let reader = self.reader.as_ref().filter(|_| self.kinds.contains(&event.kind()));
        reader.is_some_and(|reader| reader.try_send(event.clone()).is_ok())
    }
}
