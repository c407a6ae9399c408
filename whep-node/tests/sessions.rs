//! Sessions over HTTP: who may restart them, who is told of ICE servers, whose requests are counted, and what is.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#[path = "whep/room.rs"]
#[expect(dead_code, reason = "another test needs the rest of it")]
mod room;

use control::api::SessionEvent;
use reqwest::{Method, Response, StatusCode};
use whep_node::IceServer;

use self::room::{CLASS, OFFER, Room, header, problem};

const X_FORWARDED_FOR: &str = "X-Forwarded-For";

fn fragment(ufrag: &str) -> String {
    format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n")
}

#[tokio::test]
async fn one_entity_tag_is_good_for_one_restart() {
    let (room, _publisher) = Room::with_lesson().await;
    let joined = room.post(&room.token(|_| {}), OFFER).send().await.unwrap();
    let session = format!("{}{}", room.base, header(&joined, "location"));
    let restart = async |etag: &str, ufrag: &str| {
        let request = room.http.patch(&session).header("Content-Type", room::FRAGMENT);
        request.header("If-Match", etag).body(fragment(ufrag)).send().await.unwrap()
    };
    let first = header(&joined, "etag");
    let restarted = restart(&first, "second").await;
    assert_eq!(restarted.status(), StatusCode::OK);
    let second = header(&restarted, "etag");
    assert_ne!(first, second);
    problem(restart(&first, "third").await, 412).await;
    assert_eq!(restart(&second, "third").await.status(), StatusCode::OK, "a refused restart changes nothing");
}

#[tokio::test]
async fn the_alias_and_the_class_are_one_resource() {
    let (room, _publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    let by_alias = session.replace(CLASS, "stream");
    assert_eq!(room.http.get(&by_alias).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(room.http.delete(&by_alias).send().await.unwrap().status(), StatusCode::OK);
    problem(room.http.get(&session).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn credentials_of_a_relay_are_shown_only_to_a_good_token() {
    let (stun, turn) = (
        "<stun:stun.example>; rel=\"ice-server\"",
        "<turn:turn.example>; rel=\"ice-server\"; username=\"u\"",
    );
    let room = Room::new(|config| {
        let stun = IceServer { url: "stun:stun.example".to_owned(), username: None, credential: None };
        let [username, credential] = ["u", "c"].map(|text| Some(text.to_owned()));
        config.ice_servers =
            vec![stun, IceServer { url: "turn:turn.example".to_owned(), username, credential }];
    })
    .await;
    let _publisher = room.publish(true, true);
    let token = room.token(|_| {});
    let elsewhere = room.token(|claims| claims.cls = "room102".to_owned());
    let options = |url: String| room.http.request(Method::OPTIONS, url);
    let by_query = format!("{}?jwt={token}", room.endpoint());
    let only_stun = [
        options(room.endpoint()),
        options(room.endpoint()).bearer_auth("a.b.c"),
        options(room.endpoint()).bearer_auth(elsewhere),
        // A browser's own question before a player's: no page sees the answer.
        options(by_query.clone()).header("Access-Control-Request-Method", "POST"),
    ];
    for request in only_stun {
        let response = request.send().await.unwrap();
        assert_eq!((response.status(), header(&response, "link")), (StatusCode::NO_CONTENT, stun.to_owned()));
    }
    let everything =
        [options(room.endpoint()).bearer_auth(&token), options(by_query), room.post(&token, OFFER)];
    for request in everything {
        let link = header(&request.send().await.unwrap(), "link");
        assert!(link.starts_with(&format!("{stun}, {turn}")), "{link}");
    }
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_have_a_rate_each_and_their_own_address() {
    let mut room = Room::new(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".to_owned()].try_into().unwrap();
        (config.requests_at_once, config.requests_per_second) = (2, 0);
    })
    .await;
    let _publisher = room.publish(true, true);
    let join = async |room: &Room, client: &str| -> Response {
        room.post(&room.token(|_| {}), OFFER).header(X_FORWARDED_FOR, client).send().await.unwrap()
    };
    for client in ["203.0.113.1", "198.51.100.7, 203.0.113.1"] {
        assert_eq!(join(&room, client).await.status(), StatusCode::CREATED);
        let SessionEvent::ViewerJoined { ip_address, .. } = room.event().await else { panic!("not joined") };
        assert_eq!(ip_address, "203.0.113.1");
    }
    let refused = join(&room, "203.0.113.1").await;
    assert_eq!(header(&refused, "retry-after"), "1");
    problem(refused, 429).await;
    assert_eq!(join(&room, "203.0.113.2").await.status(), StatusCode::CREATED);
    assert_eq!(room.counted("lectern_whep_rate_limited_total"), 1.0);
}

#[tokio::test]
async fn a_client_that_nobody_vouches_for_cannot_name_another_address() {
    let room = Room::new(|config| (config.requests_at_once, config.requests_per_second) = (1, 0)).await;
    for (client, status) in [("203.0.113.1", 401), ("203.0.113.2", 429)] {
        let request = room.http.post(room.endpoint()).header(X_FORWARDED_FOR, client);
        problem(request.send().await.unwrap(), status).await;
    }
}

#[tokio::test]
async fn a_request_for_what_everybody_may_know_costs_nothing() {
    let room = Room::new(|config| (config.requests_at_once, config.requests_per_second) = (0, 0)).await;
    let options = || room.http.request(Method::OPTIONS, room.endpoint());
    let preflight = options().header("Access-Control-Request-Method", "POST").send().await.unwrap();
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(room.http.get(room.endpoint()).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(options().send().await.unwrap().status(), StatusCode::NO_CONTENT);
    // These carry a token, which would be verified.
    problem(options().bearer_auth("a.b.c").send().await.unwrap(), 429).await;
    problem(options().query(&[("jwt", "a.b.c")]).send().await.unwrap(), 429).await;
}

#[tokio::test]
async fn what_a_full_node_refuses_and_what_a_token_displaces_is_counted() {
    let room = Room::new(|config| config.viewers_max = 3).await;
    let _publisher = room.publish(true, true);
    let token = room.token(|_| {});
    for _ in 0..3 {
        room.join(&token).await;
    }
    assert_eq!(room.counted("lectern_whep_sessions_displaced_total"), 1.0);
    let others = [room.token(|_| {}), room.token(|_| {})];
    let mut refused = 0.0;
    // The displaced viewer's seat is free when its shard has let it go.
    for other in others {
        let response = room.post(&other, OFFER).send().await.unwrap();
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            refused += 1.0;
        }
    }
    assert!(refused >= 1.0, "four viewers on three seats");
    assert_eq!(room.counted("lectern_whep_joins_refused_total"), refused);
}
