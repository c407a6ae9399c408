//! WHEP sessions of a node in this process: what happens to them, and what the coordinator hears of it.
//!
//! The checklist of the drafts, line by line, is tested against the whole program; here are the cases that need a hand
//! on the hub, on the tokens or on the clock.
#[expect(clippy::unwrap_used, reason = "events that cannot be read fail their test")]
mod events;
mod failure;
#[expect(clippy::unwrap_used, reason = "a report that cannot be sent fails its test")]
mod playback;
#[expect(clippy::unwrap_used, reason = "what cannot be revoked fails its test")]
mod revocation;
#[expect(clippy::unwrap_used, reason = "a room that cannot be set up fails its test")]
mod room;
#[expect(clippy::unwrap_used, reason = "what cannot be fetched fails its test")]
mod snapshot;

use std::time::Duration;

use control::Right;
use control::api::SessionEvent;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::room::{CLASS, OFFER, Room, STREAM_SESSION, header, problem, tracks};

#[tokio::test]
async fn a_viewer_is_reported_under_another_name_than_its_url() {
    let (mut room, _publisher) = Room::with_lesson().await;
    let response =
        room.post(&room.token(|_| {}), OFFER).header("User-Agent", "player/1").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let session = format!("{}{}", room.base, header(&response, "location"));
    let told = room.event().await;
    let SessionEvent::ViewerJoined { id, stream_session, user_id, user_agent, ip_address, .. } = &told else {
        panic!("{told:?}")
    };
    assert_eq!((&**stream_session, &**user_id), (STREAM_SESSION, "s1"));
    assert_eq!((&**user_agent, &**ip_address), ("player/1", "127.0.0.1"));
    // Whoever knows the URL may end the session, so no table and no report may hold it.
    let secret = session.rsplit('/').next().unwrap();
    assert!(secret.len() == 32 && !format!("{told:?}").contains(secret), "{told:?}");
    assert_eq!(room.http.delete(&session).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(room.left().await, (id.clone(), "removed".to_owned()));
    problem(room.http.get(&session).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn a_session_outlives_the_sound_and_ends_with_its_stream() {
    let (mut room, publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    let id = room.joined().await;
    for (video, audio) in [(true, false), (true, true), (false, true)] {
        publisher.set_tracks(&tracks(video, audio)).unwrap();
        assert_eq!(room.http.get(&session).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
    drop(publisher);
    assert_eq!(room.hub.sweep(std::time::Instant::now() + Duration::from_secs(3600)).len(), 1);
    assert_eq!(room.left().await, (id, "stream_ended".to_owned()));
    problem(room.http.get(&session).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn a_third_session_of_a_token_ends_the_first() {
    let (mut room, _publisher) = Room::with_lesson().await;
    let (token, other) = (room.token(|_| {}), room.token(|claims| claims.jti = "another".to_owned()));
    room.join(&other).await;
    room.joined().await;
    let first = room.join(&token).await;
    let first_id = room.joined().await;
    let second = room.join(&token).await;
    room.joined().await;
    let third = room.join(&token).await;
    room.joined().await;
    assert_eq!(room.left().await, (first_id, "removed".to_owned()));
    problem(room.http.get(&first).send().await.unwrap(), 404).await;
    for session in [second, third] {
        assert_eq!(room.http.get(&session).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn a_full_node_says_when_to_come_back_and_a_refused_offer_takes_no_seat() {
    let room = Room::new(|config| config.viewers_max = 1).await;
    let _publisher = room.publish(true, true);
    let token = room.token(|_| {});
    let other = OFFER.replace("H264", "VP8").replace("opus", "speex");
    let detail = problem(room.post(&token, other).send().await.unwrap(), 422).await;
    assert!(detail.contains("H.264"), "{detail}");
    room.join(&token).await;
    let full = room.post(&token, OFFER).send().await.unwrap();
    assert!(header(&full, "retry-after").parse::<u32>().unwrap() > 0);
    problem(full, 503).await;
}

#[tokio::test]
async fn a_lesson_is_joined_only_while_it_is_live() {
    let room = Room::new(|_| {}).await;
    let token = room.token(|_| {});
    let mut publisher = None;
    for expected in [409, 201, 409] {
        let response = room.post(&token, OFFER).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected);
        assert_eq!(expected == 409, response.headers().contains_key("retry-after"));
        publisher = if publisher.is_none() { Some(room.publish(true, true)) } else { None };
    }
}

#[tokio::test]
async fn lessons_of_one_track_are_answered_for_both() {
    for (video, audio) in [(true, false), (false, true)] {
        let room = Room::new(|_| {}).await;
        let _publisher = room.publish(video, audio);
        let sdp = room.post(&room.token(|_| {}), OFFER).send().await.unwrap().text().await.unwrap();
        assert_eq!(sdp.matches("a=sendonly").count(), 2, "{sdp}");
    }
}

#[tokio::test]
async fn a_token_must_be_good_let_its_bearer_watch_and_be_for_this_class() {
    let (room, _publisher) = Room::with_lesson().await;
    let send = async |token: String| room.post(&token, OFFER).send().await.unwrap();
    let expired = room.token(|claims| claims.exp = claims.iat - 60);
    let early = room.token(|claims| claims.nbf = claims.iat + 60);
    let foreign = room.token(|claims| claims.aud = "another".to_owned());
    for bad in [expired, early, foreign, "a.b.c".to_owned()] {
        let response = send(bad).await;
        assert!(header(&response, "www-authenticate").contains("invalid_token"));
        problem(response, 401).await;
    }
    let publisher_only = room.token(|claims| claims.rights = vec![Right::Publish]);
    let elsewhere = room.token(|claims| claims.cls = "room102".to_owned());
    for forbidden in [publisher_only, elsewhere] {
        problem(send(forbidden).await, 403).await;
    }
    let basic = room.http.post(room.endpoint()).basic_auth("s1", Some("secret")).send().await.unwrap();
    assert_eq!(header(&basic, "www-authenticate"), "Bearer", "which is no token at all");
    problem(basic, 401).await;
}

#[tokio::test]
async fn a_restart_is_answered_for_the_section_that_it_names() {
    let (room, _publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    let fragment =
        "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 RTP/AVP 0\r\na=mid:video0\r\n";
    let restarted = room.patch(&session, fragment).send().await.unwrap();
    assert_eq!(restarted.status(), StatusCode::OK);
    assert!(restarted.text().await.unwrap().contains("a=mid:video0\r\n"));
    let again = room.patch(&session, fragment).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NO_CONTENT, "the same credentials are no second restart");
    let long = format!("a=ice-ufrag:{}\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n", "x".repeat(300));
    problem(room.patch(&session, long).send().await.unwrap(), 422).await;
    assert_eq!(room.http.get(&session).send().await.unwrap().status(), StatusCode::NO_CONTENT, "it goes on");
}

#[tokio::test]
async fn ice_servers_come_with_the_answer() {
    let room = Room::new(|config| {
        let server =
            whep_node::IceServer { url: "stun:stun.example".to_owned(), username: None, credential: None };
        config.ice_servers =
            vec![server.clone(), whep_node::IceServer { url: "turn:turn.example".to_owned(), ..server }];
    })
    .await;
    let _publisher = room.publish(true, true);
    let response = room.post(&room.token(|_| {}), OFFER).send().await.unwrap();
    let expected = "<stun:stun.example>; rel=\"ice-server\", <turn:turn.example>; rel=\"ice-server\"";
    assert!(header(&response, "link").starts_with(expected), "{}", header(&response, "link"));
}

#[tokio::test]
async fn every_error_is_a_problem_that_a_page_may_read() {
    let (room, _publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    let base = &room.base;
    for (method, url, status) in [
        (Method::GET, format!("{base}/"), 404),
        (Method::POST, format!("{base}/live/{CLASS}"), 404),
        (Method::POST, format!("{base}/live/%ff/whep"), 404),
        (Method::DELETE, format!("{base}/live/%ff/whep/x"), 404),
        (Method::DELETE, session.replace(CLASS, "room102"), 404),
        (Method::POST, format!("{}?jwt=a&jwt=b", room.endpoint()), 400),
        (Method::DELETE, format!("{session}?_method=a&_method=b"), 400),
        (Method::PUT, room.endpoint(), 405),
        (Method::DELETE, room.endpoint(), 405),
        (Method::POST, session.clone(), 405),
    ] {
        let response = room.http.request(method, url).send().await.unwrap();
        assert_eq!(status == 405, response.headers().contains_key("allow"));
        problem(response, status).await;
    }
    let huge = "a=x\r\n".repeat(20_000);
    problem(room.patch(&session, huge.clone()).send().await.unwrap(), 422).await;
    problem(room.post(&room.token(|_| {}), huge).send().await.unwrap(), 422).await;
    assert_eq!(room.http.get(&session).send().await.unwrap().status(), StatusCode::NO_CONTENT, "it goes on");
}

/// The beginning of a request whose body is longer than what comes of it.
fn slow_offer(token: &str) -> String {
    let head = format!("POST /live/{CLASS}/whep HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {token}\r\n");
    format!("{head}Content-Type: application/sdp\r\nContent-Length: 1000\r\n\r\nv=0\r\n")
}

#[tokio::test]
async fn an_offer_is_not_read_before_its_token() {
    let room = Room::new(|_| {}).await;
    let mut stranger = TcpStream::connect(room.base.strip_prefix("http://").unwrap()).await.unwrap();
    stranger.write_all(slow_offer("a.b.c").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stranger.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up() {
    let (room, _publisher) = Room::with_lesson().await;
    // The node has the keys before the clock jumps.
    room.join(&room.token(|_| {})).await;
    tokio::time::pause();
    let address = room.base.strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let head = slow_offer(&room.token(|_| {}));
    let begun = Instant::now();
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    slow.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 408");
    assert_eq!(room.counted("lectern_whep_request_timeouts_total"), 1.0);
    assert!(begun.elapsed() < Duration::from_secs(15), "on the paused clock: {:?}", begun.elapsed());
}
