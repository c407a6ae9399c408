//! The WHEP checklist against the real program: draft-ietf-wish-whep and RFC 9725.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use testkit::{Process, Server, until};

const OFFER: &str = include_str!("offer.sdp");
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// From the first message of a publisher to a stream that can be watched.
const LIVE: Duration = Duration::from_secs(10);

/// A server with a lesson, and a player's half of HTTP.
struct Room {
    server: Server,
    _publisher: Option<Process>,
    http: Client,
}

impl Room {
    async fn with_lesson() -> Self {
        let mut room = Self::empty(&[]);
        room._publisher = Some(room.server.publish_demo());
        let url = format!("http://{}/api/v1/streams/lesson", room.server.addresses.http);
        until("a lesson that is live", LIVE, async || {
            let stream = room.http.get(&url).send().await.unwrap().text().await.unwrap();
            if stream.contains("\"state\":\"active\"") { Ok(()) } else { Err(stream) }
        })
        .await;
        room
    }

    fn empty(arguments: &[&str]) -> Self {
        let arguments = [&["--open"], arguments].concat();
        let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &arguments);
        Self { server, _publisher: None, http: Client::builder().no_proxy().build().unwrap() }
    }

    fn endpoint(&self) -> String {
        format!("http://{}/live/lesson/whep", self.server.addresses.whep)
    }

    async fn token(&self) -> String {
        let url =
            format!("http://{}/api/token?user_type=student&user_id=s1&wait=1", self.server.addresses.http);
        // The node's first heartbeat may still be on its way.
        let body: Value = until("a token", LIVE, async || {
            let response = self.http.post(&url).send().await.unwrap();
            match response.status() {
                StatusCode::OK => Ok(response.json().await.unwrap()),
                status => Err(status),
            }
        })
        .await;
        body["token"].as_str().unwrap().to_owned()
    }

    async fn offer(&self) -> RequestBuilder {
        let request = self.http.post(self.endpoint()).bearer_auth(self.token().await);
        request.header("Content-Type", "application/sdp").body(OFFER.replace('\n', "\r\n"))
    }

    /// A session: its URL, its entity tag and its answer.
    async fn join(&self) -> (String, String, String) {
        let response = self.offer().await.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = header(&response, "location");
        let url = format!("http://{}{location}", self.server.addresses.whep);
        (url, header(&response, "etag"), response.text().await.unwrap())
    }

    fn patch(&self, url: &str, body: &str) -> RequestBuilder {
        self.http.patch(url).header("Content-Type", FRAGMENT).body(body.to_owned())
    }
}

fn header(response: &Response, name: &str) -> String {
    header_of(response.headers(), name)
}

fn header_of(headers: &HeaderMap, name: &str) -> String {
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    values.join(", ")
}

/// An error is a problem (RFC 9457) that says its own status and tells nothing of the inside. Returns its detail.
async fn assert_problem(response: Response, status: u16) -> String {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    let text = body.to_string();
    for inside in ["src/", "panicked", "sqlx", "0x", "Err("] {
        assert!(!text.contains(inside), "{text}");
    }
    body["detail"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_offer_is_answered_with_201_and_a_session() {
    let room = Room::with_lesson().await;
    let response = room.offer().await.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "content-type"), "application/sdp");
    assert!(header(&response, "location").starts_with("/live/lesson/whep/"));
    let etag = header(&response, "etag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 6, "a strong tag: {etag}");
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    for exposed in ["Location", "Link", "ETag", "Accept-Patch", "Retry-After", "WWW-Authenticate"] {
        assert!(header(&response, "access-control-expose-headers").contains(exposed));
    }
}

#[tokio::test]
async fn the_answer_is_what_the_checklist_asks_for() {
    let room = Room::with_lesson().await;
    let (_, _, sdp) = room.join().await;
    let (session, media) = sdp.split_once("m=video").unwrap();
    assert!(session.contains("a=ice-lite\r\n") && session.contains("a=group:BUNDLE 0 1\r\n"), "{sdp}");
    let sections: Vec<&str> = media.split("m=").collect();
    let [video, audio, data] = sections[..] else { panic!("{sdp}") };
    assert!(video.starts_with(" 9 UDP/TLS/RTP/SAVPF 108 109\r\n"), "constrained baseline and its rtx: {sdp}");
    assert!(audio.starts_with("audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), "{sdp}");
    assert!(data.starts_with("application 0 "), "{sdp}");
    let media_port = room.server.addresses.media.port();
    for section in [video, audio] {
        for line in ["a=sendonly", "a=rtcp-mux", "a=rtcp-mux-only", "a=setup:passive", "a=end-of-candidates"]
        {
            assert!(section.contains(&format!("{line}\r\n")), "{line} in {sdp}");
        }
        assert_eq!(section.matches("a=msid:").count(), 1);
        assert!(section.contains(&format!(" udp 2130706431 127.0.0.1 {media_port} typ host\r\n")), "{sdp}");
        assert!(section.contains(&format!(" 127.0.0.1 {media_port} typ host tcptype passive\r\n")), "{sdp}");
    }
    assert!(!sdp.contains("playout-delay"), "only when asked for");
    let low = room.offer().await.query(&[("latency", "low")]).send().await.unwrap().text().await.unwrap();
    assert!(low.contains("a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n"));
}

#[tokio::test]
async fn unusual_offers_are_answered_too() {
    let room = Room::with_lesson().await;
    for (what, offer) in [
        ("sendrecv", OFFER.replace("a=recvonly", "a=sendrecv")),
        ("opus without channels", OFFER.replace("opus/48000/2", "OPUS/48000")),
        (
            "H.264 without parameters",
            OFFER
                .lines()
                .filter(|line| !line.contains("packetization"))
                .fold(String::new(), |text, line| text + line + "\n"),
        ),
        ("active", OFFER.replace("actpass", "active")),
    ] {
        let response = room.offer().await.body(offer).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED, "{what}");
        let sdp = response.text().await.unwrap();
        assert!(sdp.contains("m=video 9") && sdp.contains("m=audio 9"), "{what}: {sdp}");
    }
}

#[tokio::test]
async fn bad_offers_get_415_or_422_and_a_reason() {
    let room = Room::with_lesson().await;
    let token = room.token().await;
    let post = |kind: &'static str, body: String| {
        room.http.post(room.endpoint()).bearer_auth(&token).header("Content-Type", kind).body(body)
    };
    let detail = assert_problem(post("text/plain", OFFER.to_owned()).send().await.unwrap(), 415).await;
    assert!(detail.contains("application/sdp"), "{detail}");
    for (bad, reason) in [
        (String::new(), "not a session description"),
        ("hello".to_owned(), "not a session description"),
        ("v=0\n".to_owned(), "not a session description"),
        (OFFER.replace("a=ice-ufrag:Qx3r\n", ""), "a=ice-ufrag"),
        (OFFER.replace("sha-256", "sha-1"), "SHA-256"),
        (OFFER.replace("actpass", "passive"), "a=setup:passive"),
        (OFFER.replace("H264", "VP9").replace("opus", "speex"), "no H.264"),
        (OFFER.replace("a=recvonly", "a=inactive"), "wants to receive nothing"),
        ("v=0\n".repeat(30_000), "too large"),
    ] {
        let detail = assert_problem(post("application/sdp", bad).send().await.unwrap(), 422).await;
        assert!(detail.contains(reason), "{reason} in {detail}");
    }
}

#[tokio::test]
async fn reading_and_asking_cost_nothing() {
    let room = Room::with_lesson().await;
    let (session, _, _) = room.join().await;
    for url in [room.endpoint(), session] {
        let get = room.http.get(&url).send().await.unwrap();
        assert_eq!(get.status(), StatusCode::NO_CONTENT);
        assert!(get.bytes().await.unwrap().is_empty());
        let head = room.http.head(&url).send().await.unwrap();
        assert_eq!(
            (head.status(), header(&head, "content-type")),
            (StatusCode::OK, "application/sdp".to_owned())
        );
        let options = room.http.request(Method::OPTIONS, &url).send().await.unwrap();
        assert!(options.status().is_success());
        for allowed in ["Authorization", "Content-Type", "If-Match"] {
            assert!(header(&options, "access-control-allow-headers").contains(allowed));
        }
        assert!(header(&options, "access-control-allow-methods").contains("OPTIONS"));
        assert_problem(room.http.put(&url).send().await.unwrap(), 405).await;
    }
    let options = room.http.request(Method::OPTIONS, room.endpoint()).send().await.unwrap();
    assert_eq!(header(&options, "accept-post"), "application/sdp");
}

#[tokio::test]
async fn a_lesson_that_is_not_live_is_409_with_a_time_to_come_back() {
    let room = Room::empty(&[]);
    let response = room.offer().await.send().await.unwrap();
    assert!(header(&response, "retry-after").parse::<u32>().unwrap() > 0);
    assert_problem(response, 409).await;
}

#[tokio::test]
async fn tokens_are_needed_and_checked() {
    let room = Room::with_lesson().await;
    let post = |url: String| room.http.post(url).header("Content-Type", "application/sdp").body(OFFER);
    let guarded = Server::start(env!("CARGO_BIN_EXE_lectern"), &[]);
    let endpoint = format!("http://{}/live/lesson/whep", guarded.addresses.whep);
    let none = post(endpoint).send().await.unwrap();
    assert_eq!(header(&none, "www-authenticate"), "Bearer");
    assert_problem(none, 401).await;
    let good = room.token().await;
    let mut forged = good.clone().into_bytes();
    let last = forged.len() - 5;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let none_alg = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    for bad in [String::from_utf8(forged).unwrap(), none_alg, "x".repeat(10_000), "a.b.c".to_owned()] {
        let refused = post(room.endpoint()).bearer_auth(&bad).send().await.unwrap();
        assert!(header(&refused, "www-authenticate").contains("invalid_token"));
        assert_problem(refused, 401).await;
    }
    let other = room.endpoint().replace("lesson", "room101");
    assert_problem(post(other).bearer_auth(&good).send().await.unwrap(), 403).await;
    let in_query = post(format!("{}?jwt={good}", room.endpoint())).send().await.unwrap();
    assert_eq!(in_query.status(), StatusCode::CREATED);
    let alias = post(room.endpoint().replace("lesson", "stream")).bearer_auth(&good).send().await.unwrap();
    assert_eq!(alias.status(), StatusCode::CREATED, "live/stream is the default class");
}

#[tokio::test]
async fn in_open_mode_a_player_that_is_near_needs_nothing_but_the_address() {
    let room = Room::with_lesson().await;
    let post = |url: String| room.http.post(url).header("Content-Type", "application/sdp").body(OFFER);
    let near = post(room.endpoint()).send().await.unwrap();
    assert_eq!(near.status(), StatusCode::CREATED);
    let session = format!("http://{}{}", room.server.addresses.whep, header(&near, "location"));
    assert_eq!(room.http.delete(&session).send().await.unwrap().status(), StatusCode::OK);
    let own = post(room.endpoint()).header("Origin", format!("http://{}", room.server.addresses.http));
    assert_eq!(own.send().await.unwrap().status(), StatusCode::CREATED);
    // Pages of others, and names that others may have, are not near, wherever their browser is.
    let foreign = post(room.endpoint()).header("Origin", "https://elsewhere.example");
    assert_problem(foreign.send().await.unwrap(), 401).await;
    assert_problem(post(room.endpoint()).header("Host", "evil.example").send().await.unwrap(), 401).await;
    let proxied = post(room.endpoint()).header("X-Forwarded-For", "192.168.1.7");
    assert_problem(proxied.send().await.unwrap(), 401).await;
    assert_problem(post(room.endpoint().replace("lesson", "nowhere")).send().await.unwrap(), 404).await;
    let url = format!("http://{}/api/token?user_type=student&user_id=s1", room.server.addresses.http);
    let link = header(&room.http.post(url).send().await.unwrap(), "link");
    assert_eq!(link, format!("<{}>; rel=\"alternate\"", room.endpoint()));
}

#[tokio::test]
async fn a_token_of_another_server_is_refused() {
    let room = Room::with_lesson().await;
    let foreign = Room::empty(&[]).token().await;
    let refused = room.offer().await.headers(bearer(&foreign)).send().await.unwrap();
    assert_problem(refused, 401).await;
}

/// Replaces the header, where `bearer_auth` would add a second one.
fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers
}

#[tokio::test]
async fn candidates_are_taken_under_the_right_condition() {
    let room = Room::with_lesson().await;
    let (session, etag, _) = room.join().await;
    let fragment = "a=ice-ufrag:Qx3r\r\na=ice-pwd:aZ0KjwVmI3RrWn0yUb4b9CZk\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2130706431 x.local 9 typ host\r\na=candidate:2 1 tcp 1 127.0.0.1 9 typ host\r\n\
        a=end-of-candidates\r\n";
    for condition in [etag.as_str(), "*", "\"*\""] {
        let response = room.patch(&session, fragment).header("If-Match", condition).send().await.unwrap();
        assert_eq!((response.status(), header(&response, "etag")), (StatusCode::NO_CONTENT, String::new()));
    }
    // medooze and binbat trickle without one.
    let bare = room.patch(&session, fragment).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::NO_CONTENT);
    let wrong = room.patch(&session, fragment).header("If-Match", "\"other\"").send().await.unwrap();
    assert_problem(wrong, 412).await;
    let kind = room.http.patch(&session).header("Content-Type", "application/sdp").header("If-Match", "*");
    assert_problem(kind.body(fragment).send().await.unwrap(), 415).await;
    let junk = room.patch(&session, "junk").header("If-Match", "*").send().await.unwrap();
    assert_problem(junk, 422).await;
}

#[tokio::test]
async fn new_credentials_restart_ice_and_change_the_entity_tag() {
    let room = Room::with_lesson().await;
    let (session, etag, answer) = room.join().await;
    let fragment = "a=ice-ufrag:NewU\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
    assert_problem(room.patch(&session, fragment).send().await.unwrap(), 428).await;
    let response = room.patch(&session, fragment).header("If-Match", "*").send().await.unwrap();
    assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, FRAGMENT.to_owned()));
    let new_etag = header(&response, "etag");
    assert_ne!(new_etag, etag);
    let body = response.text().await.unwrap();
    let ufrag = body.lines().find(|line| line.starts_with("a=ice-ufrag:")).unwrap();
    assert!(
        !answer.contains(ufrag) && body.contains("a=candidate:") && body.contains("a=ice-pwd:"),
        "{body}"
    );
    let outdated = room.patch(&session, fragment).header("If-Match", &etag).send().await.unwrap();
    assert_problem(outdated, 412).await;
}

#[tokio::test]
async fn a_session_ends_once() {
    let room = Room::with_lesson().await;
    let (session, _, _) = room.join().await;
    let first = room.http.delete(&session).header("If-Match", "\"whatever\"").send().await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    assert_problem(room.http.delete(&session).send().await.unwrap(), 404).await;
    assert_problem(room.patch(&session, "a=x\r\n").header("If-Match", "*").send().await.unwrap(), 404).await;
    let (session, _, _) = room.join().await;
    let beacon = room.http.post(format!("{session}?_method=DELETE")).send().await.unwrap();
    assert_eq!(beacon.status(), StatusCode::OK);
}

#[tokio::test]
async fn session_urls_cannot_be_guessed_and_one_token_has_two_at_most() {
    let room = Room::with_lesson().await;
    let token = room.token().await;
    let mut urls = Vec::new();
    for _ in 0..3 {
        let response = room.offer().await.headers(bearer(&token)).send().await.unwrap();
        urls.push(format!("http://{}{}", room.server.addresses.whep, header(&response, "location")));
    }
    assert!(urls.iter().all(|url| url.rsplit('/').next().unwrap().len() == 32));
    until("the end of the oldest session", LIVE, async || {
        match room.http.get(&urls[0]).send().await.unwrap().status() {
            StatusCode::NOT_FOUND => Ok(()),
            status => Err(status),
        }
    })
    .await;
    for url in &urls[1..] {
        assert_eq!(room.http.get(url).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn a_flood_of_requests_gets_429_once_the_allowance_is_used_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // One more a second: however busy the machine is, requests come faster than that.
    std::fs::write(file.path(), "[whep]\nrequests_at_once = 10\nrequests_per_second = 1\n").unwrap();
    let room = Room::empty(&["--config", file.path().to_str().unwrap()]);
    let url = format!("{}/nothing", room.endpoint());
    let mut passed = 0;
    let refused = loop {
        let response = room.http.delete(&url).send().await.unwrap();
        if response.status() != StatusCode::NOT_FOUND {
            break response;
        }
        passed += 1;
        assert!(passed < 100, "nothing is refused");
    };
    assert!(passed >= 10, "the allowance is there to be used, and only {passed} passed");
    assert_problem(refused, 429).await;
}

#[tokio::test]
async fn ice_servers_are_announced_where_players_look() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[[whep.ice_servers]]\nurl = \"turn:turn.example?transport=udp\"\nusername = \"u\"\ncredential = \"c\"\n";
    std::fs::write(file.path(), text).unwrap();
    let room = Room::empty(&["--config", file.path().to_str().unwrap()]);
    let options = room.http.request(Method::OPTIONS, room.endpoint());
    assert_eq!(header(&options.send().await.unwrap(), "link"), "", "credentials are not for everybody");
    let options = room.http.request(Method::OPTIONS, room.endpoint()).bearer_auth(room.token().await);
    let options = options.send().await.unwrap();
    assert_eq!(
        header(&options, "link"),
        "<turn:turn.example?transport=udp>; rel=\"ice-server\"; username=\"u\"; credential=\"c\"; \
         credential-type=\"password\""
    );
}
