//! The ICE-lite agent of one viewer (RFC 8445, section 2.5): it answers connectivity checks and never makes any.
use aws_lc_rs::hmac;
use is::stun::{StunMessage, TransId};

use crate::batch::Path;
use crate::sdp::Credentials;

/// Bytes that a binding response may take.
const RESPONSE_MAX: usize = 256;
/// Paths that a viewer may check at once: a phone has a handful of addresses, each with a few ports.
const PATHS_MAX: usize = 16;

/// The credentials of a viewer and the paths that proved to know them.
#[derive(Debug)]
pub(crate) struct Agent {
    local: Credentials,
    /// The credentials before an ICE restart, until the new ones are used.
    replaced: Option<Credentials>,
    paths: Vec<Path>,
    selected: Option<Path>,
}

/// What a connectivity check led to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Vec<u8>,
    /// The path was not known before.
    pub(crate) is_new_path: bool,
    /// A path that was forgotten to make room.
    pub(crate) forgotten: Option<Path>,
}

impl Agent {
    pub(crate) fn new(local: Credentials) -> Self {
        Self { local, replaced: None, paths: Vec::new(), selected: None }
    }

    /// Begins an ICE restart (RFC 8445, section 9): the old credentials go on working until the new ones are used.
    pub(crate) fn restart(&mut self, local: Credentials) {
        self.replaced = Some(std::mem::replace(&mut self.local, local));
    }

    /// Every user name fragment under which checks may arrive.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.local), self.replaced.as_ref()]
            .into_iter()
            .flatten()
            .map(|credentials| &*credentials.ufrag)
    }

    /// The user name fragments from before ICE restarts; they go when the new ones are used.
    pub(crate) fn replaced_ufrags(&self) -> impl Iterator<Item = &str> {
        self.replaced.iter().map(|credentials| &*credentials.ufrag)
    }

    /// The path that media takes: the one nominated last, before any nomination the first that was checked.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected.or_else(|| self.paths.first().copied())
    }

    pub(crate) fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Forgets a path, because its connection is gone.
    pub(crate) fn forget(&mut self, path: Path) {
        self.paths.retain(|known| *known != path);
        self.selected = self.selected.filter(|selected| *selected != path);
    }

    /// Answers a binding request; `None` when it is not one or does not know the password (RFC 8445, section 7.3).
    pub(crate) fn on_request(
        &mut self,
        path: Path,
        mapped: std::net::SocketAddr,
        message: &[u8],
    ) -> Option<Answer> {
        let request = StunMessage::parse(message).ok()?;
        if !request.is_binding_request() {
            return None;
        }
        let (ufrag, _) = request.split_username()?;
        let is_current = ufrag == self.local.ufrag;
        let credentials =
            if is_current { &self.local } else { self.replaced.as_ref().filter(|old| old.ufrag == ufrag)? };
        let password = credentials.pwd.as_bytes();
        if !request.verify(password, sha1_hmac) {
            return None;
        }
        let response = respond(request.trans_id(), mapped, password)?;
        let nominates = request.use_candidate();
        let is_new_path = !self.paths.contains(&path);
        let mut forgotten = None;
        if is_new_path {
            if self.paths.len() >= PATHS_MAX {
                let oldest = self.paths.iter().position(|known| Some(*known) != self.selected)?;
                forgotten = Some(self.paths.remove(oldest));
            }
            self.paths.push(path);
        }
        // A check with the new credentials completes a restart: media moves to where it came from, nominated or not.
        let completes_restart = is_current && self.replaced.take().is_some();
        if nominates || completes_restart {
            self.selected = Some(path);
        }
        Some(Answer { response, is_new_path, forgotten })
    }
}

/// The user name fragment that a binding request is addressed to; `None` for anything else.
pub(crate) fn local_ufrag(message: &[u8]) -> Option<String> {
    let request = StunMessage::parse(message).ok()?;
    if !request.is_binding_request() {
        return None;
    }
    request.split_username().map(|(local, _)| local.to_owned())
}

fn respond(id: TransId, mapped: std::net::SocketAddr, password: &[u8]) -> Option<Vec<u8>> {
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
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn credentials(ufrag: &str) -> Credentials {
        Credentials { ufrag: ufrag.to_owned(), pwd: format!("password-of-{ufrag}") }
    }

    fn request(ufrag: &str, password: &str, nominate: bool) -> Vec<u8> {
        let username = format!("{ufrag}:remote");
        let message = StunMessage::binding_request(&username, TransId::new(), true, 1, 100, nominate);
        let mut bytes = vec![0; 300];
        let len = message.to_bytes(Some(password.as_bytes()), &mut bytes, sha1_hmac).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn udp(port: u16) -> (Path, SocketAddr) {
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        (Path::Udp(address), address)
    }

    #[test]
    fn a_check_with_the_right_password_is_answered_with_the_senders_address() {
        let mut agent = Agent::new(credentials("0abc"));
        let (path, address) = udp(1000);
        let answer = agent.on_request(path, address, &request("0abc", "password-of-0abc", false)).unwrap();
        let response = StunMessage::parse(&answer.response).unwrap();
        assert!(response.is_successful_binding_response());
        assert_eq!(response.mapped_address(), Some(address));
        assert!(response.verify(b"password-of-0abc", sha1_hmac));
        assert_eq!(
            agent.selected(),
            Some(path),
            "the first path carries the handshake before any nomination"
        );
    }

    #[test]
    fn a_wrong_password_or_user_gets_no_answer() {
        let mut agent = Agent::new(credentials("0abc"));
        let (path, address) = udp(1000);
        assert!(agent.on_request(path, address, &request("0abc", "guess", true)).is_none());
        assert!(agent.on_request(path, address, &request("0abd", "password-of-0abc", true)).is_none());
        assert_eq!(agent.selected(), None);
    }

    #[test]
    fn the_last_nomination_wins() {
        let mut agent = Agent::new(credentials("0abc"));
        for (port, nominate) in [(1, false), (2, true), (3, false), (4, true)] {
            let (path, address) = udp(port);
            agent.on_request(path, address, &request("0abc", "password-of-0abc", nominate)).unwrap();
        }
        assert_eq!(agent.selected(), Some(udp(4).0));
    }

    #[test]
    fn the_old_credentials_work_until_the_new_ones_are_used() {
        let mut agent = Agent::new(credentials("0old"));
        let (path, address) = udp(1);
        agent.on_request(path, address, &request("0old", "password-of-0old", true)).unwrap();
        agent.restart(credentials("0new"));
        agent.on_request(path, address, &request("0old", "password-of-0old", false)).unwrap();
        let (moved, address) = udp(2);
        agent.on_request(moved, address, &request("0new", "password-of-0new", false)).unwrap();
        assert_eq!(agent.selected(), Some(moved));
        assert!(agent.on_request(path, address, &request("0old", "password-of-0old", false)).is_none());
    }

    #[test]
    fn the_number_of_paths_is_bounded_and_the_selected_one_stays() {
        let mut agent = Agent::new(credentials("0abc"));
        for port in 1..200 {
            let (path, address) = udp(port);
            agent.on_request(path, address, &request("0abc", "password-of-0abc", port == 1)).unwrap();
        }
        assert_eq!(agent.paths().len(), PATHS_MAX);
        assert_eq!(agent.selected(), Some(udp(1).0));
        assert!(agent.paths().contains(&udp(1).0));
    }

    #[test]
    fn damaged_checks_do_no_harm() {
        let mut agent = Agent::new(credentials("0abc"));
        let (path, address) = udp(1);
        let good = request("0abc", "password-of-0abc", true);
        for len in 0..good.len() {
            assert!(agent.on_request(path, address, &good[..len]).is_none());
        }
        let mut state = 7_u32;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bad.len();
                bad[at] ^= 1 << (state & 7);
            }
            let _ = agent.on_request(path, address, &bad);
            let _ = local_ufrag(&bad);
        }
    }
}
