//! The fragments of trickle ICE and of ICE restarts (RFC 8840, RFC 9725 section 4.3).
use std::fmt::Write as _;

use super::answer::write_candidate;
use super::{Candidate, Credentials, SDP_BYTES_MAX};

/// What a PATCH carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The viewer's credentials: others than before mean an ICE restart.
    pub credentials: Option<Credentials>,
    /// Candidates that a full agent could have used. Being ICE-lite we check none of them.
    pub candidates: usize,
    /// There will be no more.
    pub is_complete: bool,
}

impl Fragment {
    /// Reads a fragment; `None` when it is not one. Candidates that nobody can use - names of mDNS, TCP - are left out.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > SDP_BYTES_MAX {
            return None;
        }
        let mut fragment = Self::default();
        let (mut ufrag, mut pwd) = (None, None);
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let (kind, value) = line.split_once('=').filter(|(kind, _)| kind.len() == 1)?;
            if kind != "a" {
                continue;
            }
            match value.split_once(':').unwrap_or((value, "")) {
                ("ice-ufrag", value) if value.bytes().all(super::offer::is_ice_char) => ufrag = Some(value),
                ("ice-pwd", value) if value.bytes().all(super::offer::is_ice_char) => pwd = Some(value),
                ("candidate", value) => fragment.candidates += usize::from(is_usable(value)),
                ("end-of-candidates", _) => fragment.is_complete = true,
                _ => {}
            }
        }
        if let (Some(ufrag), Some(pwd)) = (ufrag, pwd) {
            fragment.credentials = Some(Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() });
        }
        Some(fragment)
    }

    /// The answer to an ICE restart: our new credentials and where we are reached.
    pub fn write_restart(local: &Credentials, candidates: &[Candidate]) -> String {
        let mut text = format!("a=ice-lite\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ufrag, local.pwd);
        text.push_str("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n");
        for (index, candidate) in candidates.iter().enumerate() {
            let _ = write!(text, "a={}\r\n", write_candidate(index, candidate));
        }
        text.push_str("a=end-of-candidates\r\n");
        text
    }
}

fn is_usable(candidate: &str) -> bool {
    let mut words = candidate.split_whitespace();
    let (protocol, address) = (words.nth(2), words.nth(1));
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"))
        && address.is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
}
