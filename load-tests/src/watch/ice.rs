//! The controlling side of ICE (RFC 8445) over one pair of addresses, and consent (RFC 7675).
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use is::stun::{StunMessage, TransId};
use rand::distr::{Alphanumeric, SampleString};

/// Bytes of a message that we write.
const MESSAGE_MAX: usize = 640;
/// RFC 8445, section 14: the first wait for an answer; it doubles up to the last.
const RETRANSMIT_FIRST: Duration = Duration::from_millis(100);
const RETRANSMIT_LAST: Duration = Duration::from_millis(1600);
/// How long the server may take to answer the first check.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// RFC 7675, section 5.1: consent is asked for every 5 s, give or take a fifth, and lasts 30 s.
const CONSENT_INTERVAL_MS: u64 = 5000;
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Checks whose answers are awaited.
const PENDING_MAX: usize = 8;
/// RFC 8445, section 5.1.2: a host candidate's priority, as a peer-reflexive one.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// A user name fragment and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) pwd: String,
}

impl Credentials {
    pub(super) fn generate() -> Self {
        let text = |len| Alphanumeric.sample_string(&mut rand::rng(), len);
        Self { ufrag: text(4), pwd: text(24) }
    }
}

/// What a message meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The server answers: handshake and media may begin.
    Connected,
    /// The server checks us; this is the response.
    Respond(Vec<u8>),
    /// A round trip took this long.
    RoundTrip(Duration),
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Send(Vec<u8>),
    /// The server does not answer any more.
    Expired,
}

#[derive(Debug)]
pub(super) struct Agent {
    local: Credentials,
    remote: Credentials,
    username: String,
    tie_breaker: u64,
    pending: Vec<(TransId, Instant)>,
    retransmit: Duration,
    is_connected: bool,
    expires: Instant,
    pub(super) deadline: Instant,
}

impl Agent {
    pub(super) fn new(now: Instant, local: Credentials, remote: Credentials) -> Self {
        Self {
            // RFC 8445, section 7.2.2: theirs, then ours.
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            local,
            remote,
            tie_breaker: rand::random(),
            pending: Vec::with_capacity(2),
            retransmit: RETRANSMIT_FIRST,
            is_connected: false,
            expires: now + CONNECT_TIMEOUT,
            deadline: now,
        }
    }

    pub(super) fn on_timeout(&mut self, now: Instant) -> Due {
        if now >= self.expires {
            return Due::Expired;
        }
        if now < self.deadline {
            return Due::Nothing;
        }
        if self.is_connected {
            let wait = CONSENT_INTERVAL_MS * rand::random_range(80..=120) / 100;
            self.deadline = now + Duration::from_millis(wait);
        } else {
            self.deadline = now + self.retransmit;
            self.retransmit = (self.retransmit * 2).min(RETRANSMIT_LAST);
        }
        self.deadline = self.deadline.min(self.expires);
        let id = TransId::new();
        if self.pending.len() == PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push((id, now));
        // Nominating with the first check (RFC 8445, section 8.1.1, as RFC 5245 allowed): there is only one pair.
        let message =
            StunMessage::binding_request(&self.username, id, true, self.tie_breaker, PRIORITY, true);
        encode(message, &self.remote.pwd).map_or(Due::Expired, Due::Send)
    }

    /// Goes on although answers are not read.
    pub(super) fn renew(&mut self, now: Instant) {
        self.expires = now + CONSENT_TIMEOUT;
    }

    pub(super) fn on_message(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Vec<Event> {
        let Ok(message) = StunMessage::parse(bytes) else { return Vec::new() };
        if message.is_binding_request() {
            let is_ours = message.split_username().is_some_and(|(ufrag, _)| ufrag == self.local.ufrag)
                && message.verify(self.local.pwd.as_bytes(), sha1);
            let reply = StunMessage::binding_reply(message.trans_id(), from);
            let response = is_ours.then(|| encode(reply, &self.local.pwd)).flatten();
            return response.map(Event::Respond).into_iter().collect();
        }
        if !message.is_successful_binding_response() || !message.verify(self.remote.pwd.as_bytes(), sha1) {
            return Vec::new();
        }
        let Some(at) = self.pending.iter().position(|(id, _)| *id == message.trans_id()) else {
            return Vec::new();
        };
        let (_, sent) = self.pending.remove(at);
        let mut events = vec![Event::RoundTrip(now.saturating_duration_since(sent))];
        self.expires = now + CONSENT_TIMEOUT;
        if !self.is_connected {
            self.is_connected = true;
            self.deadline = now + Duration::from_millis(CONSENT_INTERVAL_MS);
            events.push(Event::Connected);
        }
        events
    }
}

fn encode(message: StunMessage<'_>, password: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let len = message.to_bytes(Some(password.as_bytes()), &mut bytes, sha1).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

/// RFC 8489, section 14.5.
fn sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-1 has 20 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(now: Instant) -> (Agent, Credentials, Credentials) {
        let (local, remote) = (Credentials::generate(), Credentials::generate());
        (Agent::new(now, local.clone(), remote.clone()), local, remote)
    }

    fn sent(agent: &mut Agent, now: Instant) -> Vec<u8> {
        match agent.on_timeout(now) {
            Due::Send(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answered_check_connects_and_measures_the_round_trip() {
        let now = Instant::now();
        let (mut agent, _, remote) = pair(now);
        let check = sent(&mut agent, now);
        let request = StunMessage::parse(&check).unwrap();
        assert!(request.use_candidate() && request.ice_controlling().is_some() && request.prio().is_some());
        assert!(request.verify(remote.pwd.as_bytes(), sha1));
        let from = "192.0.2.1:1".parse().unwrap();
        let response = encode(StunMessage::binding_reply(request.trans_id(), from), &remote.pwd).unwrap();
        let later = now + Duration::from_millis(30);
        let events = agent.on_message(later, from, &response);
        assert_eq!(events, [Event::RoundTrip(Duration::from_millis(30)), Event::Connected]);
        assert_eq!(agent.on_message(later, from, &response), [], "an answer counts once");
    }

    #[test]
    fn a_check_of_the_server_is_answered_when_it_knows_the_password() {
        let now = Instant::now();
        let (mut agent, local, remote) = pair(now);
        let username = format!("{}:{}", local.ufrag, remote.ufrag);
        let request = StunMessage::binding_request(&username, TransId::new(), false, 1, 1, false);
        let from = "192.0.2.1:1".parse().unwrap();
        assert_eq!(agent.on_message(now, from, &encode(request, "guess").unwrap()), []);
        let events = agent.on_message(now, from, &encode(request, &local.pwd).unwrap());
        assert!(matches!(&events[..], [Event::Respond(_)]));
    }

    #[test]
    fn silence_ends_the_attempt() {
        let start = Instant::now();
        let (mut agent, ..) = pair(start);
        let mut checks = 0;
        loop {
            let now = agent.deadline;
            match agent.on_timeout(now) {
                Due::Send(_) => checks += 1,
                Due::Expired => break assert_eq!(now, start + CONNECT_TIMEOUT),
                Due::Nothing => panic!("the deadline says that something is due"),
            }
        }
        assert!((5..20).contains(&checks));
    }
}
