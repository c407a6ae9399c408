//! The fragments of trickle ICE and of ICE restarts (RFC 8840, RFC 9725 section 4.3).
use std::fmt::Write as _;

use super::answer::write_candidate;
use super::offer::{is_mid, is_pwd, is_ufrag};
use super::{Candidate, Credentials, SDP_BYTES_MAX};

/// What a PATCH carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The viewer's credentials: others than before mean an ICE restart.
    pub credentials: Option<Credentials>,
    /// The tag of the first section that it names; the bundle has one transport, so the others say the same.
    pub mid: Option<String>,
    /// Candidates that a full agent could have used. Being ICE-lite we check none of them.
    pub candidates: usize,
    /// There will be no more.
    pub is_complete: bool,
}

impl Fragment {
    /// Reads a fragment; `None` when it is not one, or when its credentials are not of the lengths that RFC 8839 asks
    /// for. Candidates that nobody can use - names of mDNS, TCP - are left out.
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
                ("ice-ufrag", value) => ufrag = Some(Some(value).filter(|text| is_ufrag(text))?),
                ("ice-pwd", value) => pwd = Some(Some(value).filter(|text| is_pwd(text))?),
                ("mid", value) if fragment.mid.is_none() && is_mid(value) => {
                    fragment.mid = Some(value.to_owned());
                }
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

    /// The answer to an ICE restart: our new credentials and where we are reached, for the section that was named.
    pub fn answer(&self, local: &Credentials, candidates: &[Candidate]) -> String {
        let mut text = format!("a=ice-lite\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ufrag, local.pwd);
        // RFC 8840, section 9: kind and formats of the line mean nothing here, the tag alone does.
        let mid = self.mid.as_deref().unwrap_or("0");
        let _ = write!(text, "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n");
        for (index, candidate) in candidates.iter().enumerate() {
            let _ = write!(text, "a={}\r\n", write_candidate(index, candidate));
        }
        text.push_str("a=end-of-candidates\r\n");
        text
    }
}

/// RFC 8839, section 5.1: foundation, component, transport, priority, address.
fn is_usable(candidate: &str) -> bool {
    let mut words = candidate.split_whitespace();
    let (protocol, address) = (words.nth(2), words.nth(1));
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"))
        && address.is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Transport;

    const TRICKLED: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:video0\r\n\
        a=candidate:1 1 UDP 2130706431 192.0.2.7 61764 typ host generation 0\r\n\
        a=candidate:2 1 udp 2130706431 4f1c7a8e.local 61765 typ host\r\n\
        a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active\r\n\
        a=candidate:4 1 udp 2130706431 2001:db8::7 61766 typ host\r\n\
        a=end-of-candidates\r\nm=audio 9 RTP/AVP 0\r\na=mid:audio1\r\n";

    fn local() -> Credentials {
        Credentials { ufrag: "0abcdefghijk".to_owned(), pwd: "abcdefghijklmnopqrstuvwx".to_owned() }
    }

    #[test]
    fn a_fragment_says_who_sends_it_and_names_of_mdns_and_tcp_count_for_nothing() {
        for text in [TRICKLED.to_owned(), TRICKLED.replace("\r\n", "\n")] {
            let fragment = Fragment::parse(&text).unwrap();
            let credentials = fragment.credentials.unwrap();
            assert_eq!((&*credentials.ufrag, &*credentials.pwd), ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1"));
            assert_eq!(fragment.mid.as_deref(), Some("video0"));
            assert_eq!((fragment.candidates, fragment.is_complete), (2, true));
        }
    }

    #[test]
    fn what_is_no_fragment_or_has_credentials_of_a_wrong_length_is_refused() {
        let long = "a".repeat(257);
        for text in [
            "junk".to_owned(),
            "a=mid:0\nhello\n".to_owned(),
            "a=ice-ufrag:\na=ice-pwd:\n".to_owned(),
            "a=ice-ufrag:abc\na=ice-pwd:abcdefghijklmnopqrstuvwx\n".to_owned(),
            format!("a=ice-ufrag:{long}\na=ice-pwd:abcdefghijklmnopqrstuvwx\n"),
            format!("a=ice-ufrag:abcd\na=ice-pwd:{long}\n"),
            "a=ice-ufrag:a b c\na=ice-pwd:abcdefghijklmnopqrstuvwx\n".to_owned(),
            "a=x\n".repeat(SDP_BYTES_MAX / 4 + 1),
        ] {
            assert_eq!(Fragment::parse(&text), None, "{text:.60}");
        }
        assert_eq!(Fragment::parse(""), Some(Fragment::default()));
    }

    #[test]
    fn the_answer_to_a_restart_speaks_of_the_section_that_was_named() {
        let candidates = [
            Candidate { addr: ([192, 0, 2, 1], 8189).into(), transport: Transport::Udp },
            Candidate { addr: ([192, 0, 2, 1], 8189).into(), transport: Transport::TcpPassive },
        ];
        let answer = Fragment::parse(TRICKLED).unwrap().answer(&local(), &candidates);
        let expected = [
            "a=ice-lite",
            "a=ice-ufrag:0abcdefghijk",
            "a=ice-pwd:abcdefghijklmnopqrstuvwx",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0",
            "a=mid:video0",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host",
            "a=candidate:2 1 tcp 1526726399 192.0.2.1 8189 typ host tcptype passive",
            "a=end-of-candidates",
            "",
        ];
        assert_eq!(answer.split("\r\n").collect::<Vec<_>>(), expected);
        assert_eq!(Fragment::parse(&answer).unwrap().credentials, Some(local()));
    }

    #[test]
    fn no_damage_to_a_fragment_does_harm() {
        for end in 0..=TRICKLED.len() {
            let _ = Fragment::parse(&TRICKLED[..end]);
        }
    }
}
