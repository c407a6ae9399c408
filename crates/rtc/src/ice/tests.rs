//! What the agent answers, and what it takes for proof.
use super::paths::PATHS_MAX;
use super::*;

pub(crate) fn credentials(ufrag: &str) -> Credentials {
    Credentials { ufrag: ufrag.to_owned(), pwd: format!("password-of-{ufrag}") }
}

fn agent(ufrag: &str) -> Agent {
    Agent::new(credentials(ufrag), credentials("viewer"))
}

pub(crate) fn request(ufrag: &str, password: &str, nominate: bool) -> Vec<u8> {
    let username = format!("{ufrag}:remote");
    let message = StunMessage::binding_request(&username, TransId::new(), true, 1, 100, nominate);
    let mut bytes = vec![0; 300];
    let len = message.to_bytes(Some(password.as_bytes()), &mut bytes, sha1_hmac).unwrap();
    bytes.truncate(len);
    bytes
}

fn udp(port: u16) -> (Path, SocketAddr) {
    let address = SocketAddr::from(([192, 0, 2, 1], port));
    (Path::Udp { peer: address, local: None }, address)
}

fn check(agent: &mut Agent, ufrag: &str, port: u16, nominate: bool) -> Option<Answer> {
    let (path, address) = udp(port);
    agent.on_request(
        Instant::now(),
        path,
        address,
        &request(ufrag, &format!("password-of-{ufrag}"), nominate),
    )
}

/// What a viewer answers to a check of ours.
pub(crate) fn answer_to(probe: &[u8]) -> Vec<u8> {
    let probe = StunMessage::parse(probe).unwrap();
    respond(probe.trans_id(), ([198, 51, 100, 1], 8189).into(), b"password-of-viewer").unwrap()
}

/// A check from a viewer that answers ours.
fn proven_check(agent: &mut Agent, ufrag: &str, port: u16, nominate: bool) -> Answer {
    let answer = check(agent, ufrag, port, nominate).unwrap();
    if let Some(probe) = &answer.probe {
        assert!(agent.on_answer(Instant::now(), udp(port).0, &answer_to(probe)));
    }
    answer
}

#[test]
fn a_check_with_the_right_password_is_answered_with_the_senders_address() {
    let mut agent = agent("0abc");
    let answer = check(&mut agent, "0abc", 1000, false).unwrap();
    let response = StunMessage::parse(&answer.response).unwrap();
    assert!(response.is_successful_binding_response());
    assert_eq!(response.mapped_address(), Some(udp(1000).1));
    assert!(response.verify(b"password-of-0abc", sha1_hmac));
    assert_eq!(agent.handshake_path(), Some(udp(1000).0), "the handshake may begin before any nomination");
}

#[test]
fn a_wrong_password_or_user_gets_no_answer() {
    let mut agent = agent("0abc");
    let (path, address) = udp(1000);
    let now = Instant::now();
    assert!(agent.on_request(now, path, address, &request("0abc", "guess", true)).is_none());
    assert!(agent.on_request(now, path, address, &request("0abd", "password-of-0abc", true)).is_none());
    assert_eq!(agent.handshake_path(), None);
}

#[test]
fn a_new_path_is_asked_for_proof_until_it_gives_it_and_media_waits() {
    let mut agent = agent("0abc");
    let first = check(&mut agent, "0abc", 1, true).unwrap().probe.unwrap();
    let request = StunMessage::parse(&first).unwrap();
    assert!(request.is_binding_request() && request.ice_controlled().is_some() && !request.use_candidate());
    assert_eq!(request.username(), Some("viewer:0abc"));
    assert!(request.verify(b"password-of-viewer", sha1_hmac));
    assert_eq!(agent.selected(), None);
    let again = check(&mut agent, "0abc", 1, true).unwrap().probe.unwrap();
    let again = StunMessage::parse(&again).unwrap();
    assert_eq!(again.trans_id(), request.trans_id(), "a late answer to the first counts");
    assert!(agent.on_answer(Instant::now(), udp(1).0, &answer_to(&first)));
    assert_eq!(agent.selected(), Some(udp(1).0));
    assert!(check(&mut agent, "0abc", 1, true).unwrap().probe.is_none());
}

#[test]
fn only_an_answer_to_our_check_from_where_it_was_sent_is_proof() {
    let mut agent = agent("0abc");
    let now = Instant::now();
    proven_check(&mut agent, "0abc", 1, true);
    let probe = check(&mut agent, "0abc", 2, false).unwrap().probe.unwrap();
    check(&mut agent, "0abc", 2, true).unwrap();
    let guess = respond(TransId::new(), udp(2).1, b"password-of-viewer").unwrap();
    assert!(!agent.on_answer(now, udp(2).0, &guess));
    assert!(!agent.on_answer(now, udp(1).0, &answer_to(&probe)));
    assert!(!agent.on_answer(now, udp(2).0, &probe), "the request itself is none");
    agent.on_authentic_feedback(now, udp(2).0);
    assert_eq!(agent.selected(), Some(udp(1).0));
    // A viewer that does not like our check says so, and has received it.
    let id = StunMessage::parse(&probe).unwrap().trans_id();
    let mut refusal = vec![0; 100];
    let len = StunMessage::binding_role_conflict_reply(id).to_bytes(None, &mut refusal, sha1_hmac).unwrap();
    assert!(is_answer(&refusal) && is_answer(&answer_to(&probe)) && !is_answer(&probe));
    assert!(agent.on_answer(now, udp(2).0, &refusal[..len]));
    assert_eq!(agent.selected(), Some(udp(2).0));
}

#[test]
fn a_handshake_from_one_path_alone_proves_that_path() {
    let now = Instant::now();
    let mut honest = agent("0abc");
    check(&mut honest, "0abc", 1, true).unwrap();
    honest.on_handshake(udp(1).0);
    honest.on_handshake(udp(1).0);
    honest.on_keys(now);
    assert_eq!(honest.selected(), Some(udp(1).0));
    // Who reads the answers on one path and writes the rest as if it came from another has proven neither.
    let mut mixed = agent("0abc");
    for port in [1, 2] {
        check(&mut mixed, "0abc", port, true).unwrap();
        mixed.on_handshake(udp(port).0);
    }
    assert_eq!(mixed.handshake_path(), Some(udp(2).0));
    mixed.on_handshake(udp(2).0);
    mixed.on_keys(now);
    assert_eq!(mixed.selected(), None);
}

#[test]
fn the_old_credentials_work_until_the_new_ones_are_used() {
    let mut agent = agent("0old");
    proven_check(&mut agent, "0old", 1, true);
    assert_eq!(agent.restart(credentials("0new"), credentials("viewer2")), None);
    assert_eq!(proven_check(&mut agent, "0old", 1, false).retired, [""; 0]);
    let answer = proven_check(&mut agent, "0new", 2, false);
    assert_eq!(answer.retired, ["0old"]);
    let probe = answer.probe.unwrap();
    assert_eq!(StunMessage::parse(&probe).unwrap().username(), Some("viewer2:0new"));
    assert_eq!(agent.selected(), Some(udp(2).0));
    assert!(check(&mut agent, "0old", 1, false).is_none());
    assert_eq!(agent.ufrags().collect::<Vec<_>>(), ["0new"]);
}

#[test]
fn restarts_in_a_row_leave_the_credentials_in_use_and_the_latest() {
    let mut agent = agent("0use");
    proven_check(&mut agent, "0use", 1, true);
    let retired: Vec<_> = ["0a", "0b", "0c", "0d"]
        .into_iter()
        .map(|ufrag| agent.restart(credentials(ufrag), credentials("viewer")))
        .collect();
    assert_eq!(retired, [None, None, Some("0a".to_owned()), Some("0b".to_owned())]);
    assert!(check(&mut agent, "0use", 1, true).is_some());
    assert!(check(&mut agent, "0b", 2, true).is_none());
    assert_eq!(check(&mut agent, "0d", 2, true).unwrap().retired, ["0use", "0c"]);
}

#[test]
fn the_number_of_paths_is_bounded_and_the_selected_one_stays() {
    let mut agent = agent("0abc");
    proven_check(&mut agent, "0abc", 1, true);
    for port in 2..200 {
        check(&mut agent, "0abc", port, false).unwrap();
    }
    assert_eq!(agent.paths().count(), PATHS_MAX);
    assert_eq!(agent.selected(), Some(udp(1).0));
    assert!(agent.paths().any(|path| path == udp(1).0));
}

#[test]
fn damaged_checks_do_no_harm() {
    let mut agent = agent("0abc");
    let (path, address) = udp(1);
    let now = Instant::now();
    let good = request("0abc", "password-of-0abc", true);
    for len in 0..good.len() {
        assert!(agent.on_request(now, path, address, &good[..len]).is_none());
    }
    let probe = check(&mut agent, "0abc", 1, true).unwrap().probe.unwrap();
    let mut state = 7_u32;
    for good in [good, answer_to(&probe)] {
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % bad.len();
                bad[at] ^= 1 << (state & 7);
            }
            let _ = agent.on_request(now, path, address, &bad);
            let _ = agent.on_answer(now, path, &bad);
            // As the library reads it, as far as that does.
            let is_stun = bad[0] < 4;
            let theirs =
                StunMessage::parse(&bad).ok().filter(|theirs| is_stun && theirs.is_binding_request());
            if let Some((ufrag, _)) = theirs.as_ref().and_then(StunMessage::split_username) {
                assert_eq!(local_ufrag(&bad), Some(ufrag), "{bad:x?}");
            }
        }
    }
}

#[test]
fn a_fragment_that_is_too_long_for_a_check_of_ours_is_answered_all_the_same() {
    let remote = Credentials { ufrag: "f".repeat(256), pwd: "password".to_owned() };
    let mut agent = Agent::new(credentials("0abc"), remote);
    let answer = check(&mut agent, "0abc", 1, true).unwrap();
    assert!(!answer.response.is_empty() && answer.probe.is_none());
}
