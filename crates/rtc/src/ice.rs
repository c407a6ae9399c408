//! The ICE-lite agent of one viewer (RFC 8445, section 2.5): it answers connectivity checks. It makes one of its own on
//! each path, only to learn whether what it sends there arrives.
mod paths;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use aws_lc_rs::hmac;
use is::stun::{StunMessage, TransId};

use self::paths::{Check, Paths};
use crate::batch::Path;
use crate::sdp::Credentials;

/// Bytes that a binding response may take.
const RESPONSE_MAX: usize = 256;
/// Bytes that a binding request may take. The library writes user names of up to 128 bytes: a viewer with a longer fragment
/// of its own, which no browser has, gets no check of ours and stays on the path of its handshake.
const PROBE_MAX: usize = 300;
/// Credentials that are valid at once: those in use, and two that a viewer may have asked for meanwhile.
const GENERATIONS_MAX: usize = 3;
/// The priority of a peer-reflexive candidate (RFC 8445, section 5.1.2.1), which is what a path of ours is to the viewer.
const PROBE_PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 0xff;

/// The credentials of a viewer and the paths that proved to know them.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The credentials in use first, then those of restarts that the viewer has yet to use.
    generations: VecDeque<Generation>,
    paths: Paths,
    handshake: Handshake,
}

/// The two halves of the credentials between two restarts.
#[derive(Debug)]
struct Generation {
    local: Credentials,
    remote: Credentials,
}

/// Where the datagrams of the handshake come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    Nowhere,
    /// All of them from here.
    From(Path),
    /// The latest from here, others from elsewhere.
    Mixed(Path),
}

/// What a connectivity check led to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Vec<u8>,
    /// A check of ours for the path to answer, as long as it has not proven itself.
    pub(crate) probe: Option<Vec<u8>>,
    /// A path that was forgotten to make room. If it is a connection, it is to be closed.
    pub(crate) forgotten: Option<Path>,
    /// User name fragments that are no longer valid.
    pub(crate) retired: Vec<String>,
}

impl Agent {
    pub(crate) fn new(local: Credentials, remote: Credentials) -> Self {
        Self {
            generations: VecDeque::from([Generation { local, remote }]),
            paths: Paths::default(),
            handshake: Handshake::Nowhere,
        }
    }

    /// Begins an ICE restart (RFC 8445, section 9): the old credentials go on working until the new ones are used.
    /// Returns a user name fragment that is no longer valid, when too many restarts wait: never that in use.
    pub(crate) fn restart(&mut self, local: Credentials, remote: Credentials) -> Option<String> {
        let is_full = self.generations.len() >= GENERATIONS_MAX;
        let retired = if is_full { self.generations.remove(1) } else { None };
        self.generations.push_back(Generation { local, remote });
        retired.map(|generation| generation.local.ufrag)
    }

    /// Every user name fragment under which checks may arrive.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.generations.iter().map(|generation| &*generation.local.ufrag)
    }

    /// The path that media takes. It is one that has proven that what is sent there arrives.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.paths.selected()
    }

    /// Where the handshake goes on when nothing came that it would answer. Sending it elsewhere than where it came from
    /// would make [`Agent::on_keys`] prove nothing.
    pub(crate) fn handshake_path(&self) -> Option<Path> {
        match self.handshake {
            Handshake::Nowhere => self.paths.nominated(),
            Handshake::From(path) | Handshake::Mixed(path) => Some(path),
        }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> {
        self.paths.iter()
    }

    /// Whether a path has proven itself and something authentic came on it lately.
    pub(crate) fn is_in_use(&self, now: Instant, path: Path) -> bool {
        self.paths.is_in_use(now, path)
    }

    /// Forgets a path, because its connection is gone or its address belongs to another viewer now.
    pub(crate) fn forget(&mut self, path: Path) {
        self.paths.forget(path);
    }

    /// A datagram of the handshake came on a path.
    pub(crate) fn on_handshake(&mut self, path: Path) {
        self.handshake = match self.handshake {
            Handshake::Nowhere => Handshake::From(path),
            Handshake::From(known) if known == path => Handshake::From(path),
            Handshake::From(_) | Handshake::Mixed(_) => Handshake::Mixed(path),
        };
    }

    /// The handshake is complete. If every datagram of it came from one path, so did what it took to complete it: the
    /// viewer has read there what we sent.
    pub(crate) fn on_keys(&mut self, now: Instant) {
        if let Handshake::From(path) = self.handshake {
            self.paths.prove(now, path);
        }
    }

    /// A packet under the session's keys came on a path. It keeps the path from counting as silent, and proves nothing:
    /// who has the keys can write one without having received any.
    pub(crate) fn on_authentic_feedback(&mut self, now: Instant, path: Path) {
        self.paths.on_heard(now, path);
    }

    /// Answers a binding request; `None` when it is not one or does not know the password (RFC 8445, section 7.3).
    pub(crate) fn on_request(
        &mut self,
        now: Instant,
        path: Path,
        mapped: SocketAddr,
        message: &[u8],
    ) -> Option<Answer> {
        let request = StunMessage::parse(message).ok()?;
        if !request.is_binding_request() {
            return None;
        }
        let (ufrag, _) = request.split_username()?;
        let position = self.generations.iter().position(|known| known.local.ufrag == ufrag)?;
        let generation = self.generations.get(position)?;
        let password = generation.local.pwd.as_bytes();
        if !request.verify(password, sha1_hmac) {
            return None;
        }
        let response = respond(request.trans_id(), mapped, password)?;
        // A check with newer credentials completes a restart: media moves to where it came from, nominated or not.
        let retired: Vec<String> = self.generations.drain(..position).map(|old| old.local.ufrag).collect();
        let forgotten = self.paths.on_check(
            now,
            Check {
                path,
                priority: request.prio().unwrap_or(0),
                nominates: request.use_candidate(),
                completes_restart: !retired.is_empty(),
            },
        );
        let probe = self.paths.probe(path, transaction);
        let probe = probe.zip(self.generations.front()).and_then(|(id, generation)| generation.probe(id));
        Some(Answer { response, probe, forgotten, retired })
    }

    /// Takes the answer to a check of ours. Returns whether its path has proven itself by it.
    ///
    /// The transaction is the proof: 96 bits that nobody knows but who received the check. So the answer may as well be
    /// an error, and its integrity says nothing more.
    pub(crate) fn on_answer(&mut self, now: Instant, path: Path, message: &[u8]) -> bool {
        let answer = StunMessage::parse(message).ok();
        let answer = answer
            .filter(|answer| answer.is_successful_binding_response() || answer.is_failed_binding_response());
        answer.is_some_and(|answer| self.paths.on_answer(now, path, answer.trans_id()))
    }
}

impl Generation {
    fn probe(&self, id: TransId) -> Option<Vec<u8>> {
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        let request =
            StunMessage::binding_request(&username, id, false, rand::random(), PROBE_PRIORITY, false);
        let mut bytes = vec![0; PROBE_MAX];
        let len = request.to_bytes(Some(self.remote.pwd.as_bytes()), &mut bytes, sha1_hmac).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }
}

/// Whether a STUN message is an answer, to a request of ours if at all (RFC 8489, section 5).
pub(crate) fn is_answer(message: &[u8]) -> bool {
    matches!(message, [1, 0x01 | 0x11, ..])
}

/// A transaction that nobody can guess. Those that the library makes up are not meant to be secret, so it is given one to
/// read instead.
fn transaction() -> Option<TransId> {
    /// An indication of nothing (RFC 8489, section 5): type, length, magic cookie.
    const HEADER: [u8; 8] = [0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    let id: [u8; 12] = rand::random();
    StunMessage::parse(&[&HEADER[..], &id[..]].concat()).ok().map(|message| message.trans_id())
}

/// The user name fragment that a binding request is addressed to; `None` for anything else. Whatever any stranger sends comes
/// here, so that the library sees only requests that name a viewer.
pub(crate) fn local_ufrag(message: &[u8]) -> Option<&str> {
    /// RFC 8489, sections 5, 14 and 14.3.
    const HEADER: usize = 20;
    const REQUEST_AND_COOKIE: ([u8; 2], [u8; 4]) = ([0, 1], [0x21, 0x12, 0xa4, 0x42]);
    const USERNAME: [u8; 2] = [0, 6];
    let (header, mut rest) = message.split_at_checked(HEADER)?;
    if (header.first_chunk(), header.get(4..8)) != (Some(&REQUEST_AND_COOKIE.0), Some(&REQUEST_AND_COOKIE.1))
    {
        return None;
    }
    while let Some(([t0, t1, l0, l1], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        if [*t0, *t1] == USERNAME {
            let name = std::str::from_utf8(after.get(..len)?).ok()?;
            return name.split_once(':').map(|(local, _)| local);
        }
        rest = after.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn respond(id: TransId, mapped: SocketAddr, password: &[u8]) -> Option<Vec<u8>> {
    let mut response = vec![0; RESPONSE_MAX];
    let len =
        StunMessage::binding_reply(id, mapped).to_bytes(Some(password), &mut response, sha1_hmac).ok()?;
    response.truncate(len);
    Some(response)
}

/// RFC 8489, section 14.5: HMAC-SHA1 is what message integrity uses.
fn sha1_hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().try_into().expect("SHA-1 has 20 bytes")
}

#[cfg(test)]
pub(crate) mod tests;
