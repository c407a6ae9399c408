//! The WHEP sessions of this node: what their URLs lead to.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rtc::ViewerId;
use rtc::sdp::Credentials;

/// Random characters of a session's URL: 32 of 62 are 190 bits, which nobody guesses.
const ID_LEN: usize = 32;
/// Sessions that one token may have at once; the second only while a viewer changes its network or node.
const PER_TOKEN_MAX: usize = 2;

/// One session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) viewer: ViewerId,
    pub(crate) class: String,
    /// The number of the token that opened it.
    pub(crate) token: String,
    pub(crate) etag: String,
    /// The viewer's credentials; others in a PATCH mean an ICE restart.
    pub(crate) remote: Credentials,
    sequence: u64,
}

/// All sessions; clones share them. They are as many as the engine's viewers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Session>,
    by_viewer: HashMap<ViewerId, String>,
    next: u64,
}

impl Sessions {
    /// Adds a session under a new id. Returns the id, the entity tag, and the viewers whose sessions had to make room.
    pub(crate) fn insert(
        &self,
        viewer: ViewerId,
        class: &str,
        token: &str,
        remote: Credentials,
    ) -> (String, String, Vec<ViewerId>) {
        let mut inner = self.lock();
        let mut same: Vec<(u64, ViewerId)> = inner
            .by_id
            .values()
            .filter(|session| session.token == token)
            .map(|session| (session.sequence, session.viewer))
            .collect();
        same.sort_unstable_by_key(|(sequence, _)| *sequence);
        let too_many = (same.len() + 1).saturating_sub(PER_TOKEN_MAX);
        let displaced = same.into_iter().take(too_many).map(|(_, viewer)| viewer).collect();
        let (id, etag) = (random_text(ID_LEN), new_etag());
        let session = Session {
            viewer,
            class: class.to_owned(),
            token: token.to_owned(),
            etag: etag.clone(),
            remote,
            sequence: inner.next,
        };
        inner.next += 1;
        inner.by_viewer.insert(viewer, id.clone());
        inner.by_id.insert(id.clone(), session);
        (id, etag, displaced)
    }

    /// The session behind a URL.
    pub(crate) fn find(&self, class: &str, id: &str) -> Option<Session> {
        self.lock().by_id.get(id).filter(|session| session.class == class).cloned()
    }

    /// After an ICE restart. Returns the new entity tag.
    pub(crate) fn on_restart(&self, id: &str, remote: Credentials) -> Option<String> {
        let mut inner = self.lock();
        let session = inner.by_id.get_mut(id)?;
        session.remote = remote;
        session.etag = new_etag();
        Some(session.etag.clone())
    }

    /// Removes a session by its URL.
    pub(crate) fn remove(&self, class: &str, id: &str) -> Option<Session> {
        let mut inner = self.lock();
        inner.by_id.get(id).filter(|session| session.class == class)?;
        let session = inner.by_id.remove(id)?;
        inner.by_viewer.remove(&session.viewer);
        Some(session)
    }

    /// How many watch a class.
    pub(crate) fn count(&self, class: &str) -> usize {
        self.lock().by_id.values().filter(|session| session.class == class).count()
    }

    /// Removes the session of a viewer that is gone.
    pub(crate) fn remove_viewer(&self, viewer: ViewerId) {
        let mut inner = self.lock();
        if let Some(id) = inner.by_viewer.remove(&viewer) {
            inner.by_id.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Letters and digits from the operating system's generator, by way of a CSPRNG.
pub(crate) fn random_text(len: usize) -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(len).map(char::from).collect()
}

fn new_etag() -> String {
    format!("\"{}\"", random_text(12))
}
