//! The WHEP sessions of this node: one row for each, found by its URL, its viewer or its token.
mod events;
mod playback;
mod revocation;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use rtc::ViewerId;
use rtc::sdp::Credentials;

use self::events::Subscription;
pub(crate) use self::events::{EventKind, Leaving, Origin, SentEvent};
pub(crate) use self::playback::PlaybackReport;

/// Random characters of a session's URL: 32 of 62 are 190 bits, which nobody guesses.
const ID_LEN: usize = 32;
/// Sessions that one token may have at once; the second only while a viewer changes its network or node.
const PER_TOKEN_MAX: usize = 2;
/// Lives of coordinators whose viewers are counted.
const COORDINATORS_MAX: usize = 64;
/// Sessions that ended otherwise than by their URL and are remembered: players close their connection, and then say so.
const ENDED_MAX: usize = 1024;

/// The last part of a session's URL. It is the permission to change and to end the session, so it is never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; ID_LEN]);

impl SessionId {
    fn random() -> Self {
        let mut rng = rand::rng();
        Self(std::array::from_fn(|_| rng.sample(rand::distr::Alphanumeric)))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id: [u8; ID_LEN] = text.as_bytes().try_into().ok()?;
        id.iter().all(u8::is_ascii_alphanumeric).then_some(Self(id))
    }

    /// For the URL.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only letters and digits are taken")
    }
}

/// Names the ICE session that an answer is about (RFC 9725, section 4.3.1): another one after every ICE restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag(u64);

impl EntityTag {
    fn random() -> Self {
        Self(rand::random())
    }

    /// Whether an If-Match field (RFC 9110, section 13.1.1) lets a request through.
    fn satisfies(self, condition: &str) -> bool {
        let own = self.to_string();
        // RFC 9725 writes the asterisk with quotation marks, RFC 9110 without.
        matches!(condition.trim(), "*" | "\"*\"") || condition.split(',').any(|tag| tag.trim() == own)
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:016x}\"", self.0)
    }
}

/// One session, from its answer until the engine says that its viewer is gone.
pub(crate) struct Session {
    /// The name under which it is reported: the id would be a permission.
    pub(crate) report_id: String,
    /// The session of the stream it watches.
    pub(crate) stream_session: String,
    /// From the answer to agreed keys, once they are.
    pub(crate) join_time: Option<Duration>,
    id: SessionId,
    class: Arc<str>,
    /// The number of the token that opened it, the key that signed that, and when.
    token: Arc<str>,
    kid: Box<str>,
    issued_at: u64,
    etag: EntityTag,
    /// The viewer's credentials; others in a PATCH mean an ICE restart.
    remote: Credentials,
    origin: Origin,
    /// What it has asked to be told.
    events: Option<Box<Subscription>>,
    /// What its player said last, and when.
    playback: Option<Box<(Instant, PlaybackReport)>>,
    /// Its URL is gone and it counts no more; the engine has still to let go of the viewer.
    is_ending: bool,
    /// That is because its token is void.
    pub(crate) is_revoked: bool,
}

/// What a session begins with.
pub(crate) struct NewSession<'a> {
    pub(crate) viewer: ViewerId,
    pub(crate) class: &'a str,
    pub(crate) token: &'a str,
    /// The key that signed it, and when, in seconds since 1970.
    pub(crate) kid: &'a str,
    pub(crate) issued_at: u64,
    pub(crate) remote: Credentials,
    pub(crate) report_id: String,
    pub(crate) stream_session: String,
    /// The life of the coordinator that sent it here.
    pub(crate) by: Option<&'a str>,
    pub(crate) origin: Origin,
}

/// A session that has begun.
pub(crate) struct Opened {
    pub(crate) id: SessionId,
    pub(crate) etag: EntityTag,
    /// The viewer whose session had to make room. The engine still has it.
    pub(crate) displaced: Option<ViewerId>,
}

/// What a PATCH did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Patched {
    /// ICE begins anew with these credentials of ours.
    Restarted { local: Credentials, etag: EntityTag },
    /// Candidates only, or the credentials that are already in use.
    Unchanged,
}

/// Why a PATCH did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchError {
    /// There is no such session.
    NotFound,
    /// The entity tag is of an ICE session before this one.
    Outdated,
    /// ICE is to begin anew, and nothing says which ICE session is meant.
    Unconditional,
    /// The engine took no restart.
    Busy,
}

/// All sessions; clones share them. They are as many as the engine's viewers.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Table>>);

/// Every session has a row, and each that is not ending stands once in each of the indices.
#[derive(Default)]
struct Table {
    rows: HashMap<ViewerId, Session>,
    by_id: HashMap<SessionId, ViewerId>,
    /// The oldest first.
    by_token: HashMap<Arc<str>, Vec<ViewerId>>,
    /// Only classes that somebody watches.
    watching: HashMap<Arc<str>, usize>,
    /// The oldest first.
    ended: VecDeque<SessionId>,
    /// How many joined, by the life of the coordinator that sent them.
    joins: HashMap<String, u64>,
}

impl Sessions {
    /// Opens a session if `commit` succeeds; otherwise nothing has changed. No other operation comes between the two, so
    /// whatever happens to the viewer afterwards finds its row. `commit` must not block.
    pub(crate) fn open<E>(
        &self,
        new: NewSession<'_>,
        commit: impl FnOnce() -> Result<(), E>,
    ) -> Result<Opened, E> {
        let (id, etag) = (SessionId::random(), EntityTag::random());
        let mut table = self.lock();
        commit()?;
        let displaced = table.insert(id, etag, new);
        Ok(Opened { id, etag, displaced })
    }

    /// Whether a URL leads to a session.
    pub(crate) fn contains(&self, class: &str, id: &SessionId) -> bool {
        self.lock().find(class, id).is_some()
    }

    /// Checks the entity tag and restarts ICE if the credentials are others than before. Candidates need no tag, for many
    /// players send none. `restart` tells the engine and must not block: two restarts reach it in the order in which they
    /// change the row.
    pub(crate) fn patch<E>(
        &self,
        class: &str,
        id: &SessionId,
        condition: Option<&str>,
        remote: Option<Credentials>,
        restart: impl FnOnce(ViewerId, Credentials) -> Result<Credentials, E>,
    ) -> Result<Patched, PatchError> {
        let mut table = self.lock();
        let viewer = table.find(class, id).ok_or(PatchError::NotFound)?;
        let session = table.rows.get_mut(&viewer).ok_or(PatchError::NotFound)?;
        if condition.is_some_and(|condition| !session.etag.satisfies(condition)) {
            return Err(PatchError::Outdated);
        }
        match remote {
            Some(remote) if remote != session.remote && condition.is_none() => Err(PatchError::Unconditional),
            Some(remote) if remote != session.remote => {
                let local = restart(viewer, remote.clone()).map_err(|_| PatchError::Busy)?;
                session.remote = remote;
                session.etag = EntityTag::random();
                Ok(Patched::Restarted { local, etag: session.etag })
            }
            _ => Ok(Patched::Unchanged),
        }
    }

    /// Ends a session by its URL; returns the viewer that the engine has to let go.
    pub(crate) fn end(&self, class: &str, id: &SessionId) -> Option<ViewerId> {
        let mut table = self.lock();
        let viewer = table.find(class, id)?;
        table.detach(viewer);
        Some(viewer)
    }

    /// Whether a session has ended before its URL was asked to. Says it once.
    pub(crate) fn has_ended(&self, id: &SessionId) -> bool {
        let ended = &mut self.lock().ended;
        let at = ended.iter().position(|ended| ended == id);
        at.is_some_and(|at| ended.remove(at).is_some())
    }

    /// The viewer has agreed on keys. Returns the name under which it is reported.
    pub(crate) fn on_connected(&self, viewer: ViewerId, took: Duration) -> Option<String> {
        let mut table = self.lock();
        let session = table.rows.get_mut(&viewer)?;
        session.join_time = Some(took);
        Some(session.report_id.clone())
    }

    /// The engine has let go of a viewer. Returns its row, the first time.
    pub(crate) fn on_closed(&self, viewer: ViewerId) -> Option<Session> {
        let mut table = self.lock();
        table.detach_unasked(viewer);
        table.rows.remove(&viewer)
    }

    /// How many watch a class.
    pub(crate) fn count(&self, class: &str) -> usize {
        self.lock().watching.get(class).copied().unwrap_or(0)
    }

    /// How many watch.
    pub(crate) fn all(&self) -> usize {
        self.lock().by_id.len()
    }

    /// How many have joined that this life of a coordinator sent.
    pub(crate) fn joins_by(&self, coordinator: &str) -> u64 {
        self.lock().joins.get(coordinator).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&self, class: &str, id: &SessionId) -> Option<ViewerId> {
        let viewer = *self.by_id.get(id)?;
        self.rows.get(&viewer).filter(|session| *session.class == *class).map(|_| viewer)
    }

    /// Adds a row. Returns the viewer whose session had to make room.
    fn insert(&mut self, id: SessionId, etag: EntityTag, new: NewSession<'_>) -> Option<ViewerId> {
        let NewSession {
            viewer,
            class,
            token,
            kid,
            issued_at,
            remote,
            report_id,
            stream_session,
            by,
            origin,
        } = new;
        if let Some(by) = by {
            self.count_join(by);
        }
        let of_token = self.by_token.get(token).filter(|viewers| viewers.len() >= PER_TOKEN_MAX);
        let displaced = of_token.and_then(|viewers| viewers.first().copied());
        if let Some(displaced) = displaced {
            self.detach_unasked(displaced);
        }
        let class = match self.watching.get_key_value(class) {
            Some((class, _)) => Arc::clone(class),
            None => Arc::from(class),
        };
        let token = match self.by_token.get_key_value(token) {
            Some((token, _)) => Arc::clone(token),
            None => Arc::from(token),
        };
        *self.watching.entry(Arc::clone(&class)).or_default() += 1;
        self.by_token.entry(Arc::clone(&token)).or_default().push(viewer);
        self.by_id.insert(id, viewer);
        let session = Session {
            report_id,
            stream_session,
            join_time: None,
            id,
            class,
            token,
            kid: kid.into(),
            issued_at,
            etag,
            remote,
            origin,
            events: None,
            playback: None,
            is_ending: false,
            is_revoked: false,
        };
        self.rows.insert(viewer, session);
        displaced
    }

    fn count_join(&mut self, by: &str) {
        if let Some(count) = self.joins.get_mut(by) {
            *count += 1;
            return;
        }
        if self.joins.len() >= COORDINATORS_MAX {
            // Whoever is asked least for is gone the longest.
            let least = self.joins.iter().min_by_key(|(_, count)| **count).map(|(by, _)| by.clone());
            least.map(|least| self.joins.remove(&least));
        }
        self.joins.insert(by.to_owned(), 1);
    }

    /// Ends a session otherwise than by its URL.
    fn detach_unasked(&mut self, viewer: ViewerId) {
        let Some(id) = self.detach(viewer) else { return };
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }

    /// Takes a session out of the indices; the row stays for what is still to be reported. Returns its id, the first time.
    fn detach(&mut self, viewer: ViewerId) -> Option<SessionId> {
        let session = self.rows.get_mut(&viewer).filter(|session| !session.is_ending)?;
        session.is_ending = true;
        // Whoever reads its events reads their end.
        session.events = None;
        let id = session.id;
        self.by_id.remove(&session.id);
        if let Some(viewers) = self.by_token.get_mut(&session.token) {
            viewers.retain(|other| *other != viewer);
            if viewers.is_empty() {
                self.by_token.remove(&session.token);
            }
        }
        if let Some(count) = self.watching.get_mut(&session.class) {
            *count -= 1;
            if *count == 0 {
                self.watching.remove(&session.class);
            }
        }
        Some(id)
    }
}

/// Rows hold permissions and passwords.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("rows", &self.lock().rows.len()).finish_non_exhaustive()
    }
}

/// Letters and digits from the operating system's generator, by way of a CSPRNG.
pub(crate) fn random_text(len: usize) -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(len).map(char::from).collect()
}
