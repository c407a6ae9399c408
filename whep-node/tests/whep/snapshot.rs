//! Still pictures of a lesson: who gets them, which, and how often they are fetched. What they show is tested with the whole program.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use control::{Revocation, Revoked};
use hub::{Keyframe, Source};
use media::{Frame, MediaTime, VideoConfig, VideoFrame};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::room::{CLASS, OFFER, Room, header, problem, tracks};

/// What is before every picture of these lessons.
fn config() -> Arc<VideoConfig> {
    tracks(true, false).video.unwrap()
}

fn picture(config: Arc<VideoConfig>, keyframe: bool, content: u8) -> Frame {
    let nals = [Bytes::from(vec![if keyframe { 0x65 } else { 0x41 }, content, 0x80])];
    let (time, arrival) = (MediaTime::ZERO, Instant::now());
    Frame::Video(VideoFrame { time, keyframe, recovery_point: false, config, nals: nals.into(), arrival })
}

fn url(room: &Room) -> String {
    format!("{}/live/{CLASS}/snapshot.mp4", room.base)
}

fn ask(room: &Room) -> RequestBuilder {
    room.http.get(url(room)).bearer_auth(room.token(|_| {}))
}

async fn fetch(room: &Room) -> Response {
    ask(room).send().await.unwrap()
}

/// Status and code of a refusal, which is a problem that a page may read.
async fn refusal(response: Response) -> (u16, String) {
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    assert_eq!(header(&response, "etag"), "");
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn expected(content: u8) -> Bytes {
    fmp4::snapshot(&config(), &[Bytes::from(vec![0x65, content, 0x80])]).unwrap()
}

#[tokio::test]
async fn the_newest_keyframe_comes_as_a_file_of_its_own() {
    let (room, publisher) = Room::with_lesson().await;
    for frame in [picture(config(), true, 1), picture(config(), true, 2), picture(config(), false, 3)] {
        publisher.push(frame).unwrap();
    }
    let response = fetch(&room).await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("content-type", "video/mp4"),
        ("cache-control", "no-cache, private"),
        ("etag", "\"1-1-0\""),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(header(&response, name), value, "{name}");
    }
    assert!(header(&response, "access-control-expose-headers").contains("ETag"));
    let body = response.bytes().await.unwrap();
    assert_eq!(body, expected(2));
    let never = |_: &Keyframe| panic!("it is written already, for everybody");
    assert_eq!(room.hub.keyframe(CLASS).unwrap().made(never).unwrap(), body);

    let head = room.http.head(url(&room)).bearer_auth(room.token(|_| {})).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(header(&head, "content-length"), body.len().to_string());
    assert_eq!(
        (header(&head, "etag"), header(&head, "content-type")),
        ("\"1-1-0\"".into(), "video/mp4".into())
    );
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_page_has_is_not_sent_again_until_there_is_another_keyframe() {
    let (room, publisher) = Room::with_lesson().await;
    publisher.push(picture(config(), true, 1)).unwrap();
    let tag = header(&fetch(&room).await, "etag");
    publisher.push(picture(config(), false, 2)).unwrap();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"another\", {tag}"), "*".to_owned()] {
        let response = ask(&room).header("If-None-Match", &known).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header(&response, "etag"), tag);
        assert_eq!(header(&response, "cache-control"), "no-cache, private");
        assert!(response.bytes().await.unwrap().is_empty());
    }
    publisher.push(picture(config(), true, 3)).unwrap();
    let response = ask(&room).header("If-None-Match", &tag).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "etag"), "\"1-1-0\"");
    assert_eq!(response.bytes().await.unwrap(), expected(3));
    // The frames of another publisher are counted anew.
    let next = room.publish(true, true);
    next.push(picture(config(), true, 4)).unwrap();
    let response = ask(&room).header("If-None-Match", &tag).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "etag"), "\"2-0-0\"");
}

#[tokio::test]
async fn without_a_lesson_or_a_picture_there_is_nothing_to_see() {
    let room = Room::new(|_| {}).await;
    let before = fetch(&room).await;
    assert!(header(&before, "retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(refusal(before).await, refused(409, "not_live"));
    let publisher = room.publish(true, true);
    let early = fetch(&room).await;
    assert!(header(&early, "retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(refusal(early).await, refused(404, "no_picture"));
    publisher.push(picture(config(), false, 1)).unwrap();
    assert_eq!(refusal(fetch(&room).await).await, refused(404, "no_picture"), "no decoder begins with that");
    publisher.push(picture(config(), true, 2)).unwrap();
    assert_eq!(fetch(&room).await.status(), StatusCode::OK);
    publisher.set_tracks(&tracks(false, true)).unwrap();
    assert_eq!(refusal(fetch(&room).await).await, refused(404, "no_picture"), "sound alone");
    drop(publisher);
    assert_eq!(refusal(fetch(&room).await).await, refused(409, "not_live"), "its publisher is gone");
}

#[tokio::test]
async fn a_keyframe_that_cannot_be_written_is_no_picture() {
    let (room, publisher) = Room::with_lesson().await;
    // A profile whose configuration repeats what the parameter set says, and one that ends too early.
    let high = VideoConfig { profile_level_id: [100, 0, 31], ..(*config()).clone() };
    publisher.push(picture(Arc::new(high), true, 1)).unwrap();
    assert_eq!(refusal(fetch(&room).await).await, refused(404, "no_picture"));
}

#[tokio::test]
async fn who_may_look_is_who_may_watch() {
    let (room, publisher) = Room::with_lesson().await;
    publisher.push(picture(config(), true, 1)).unwrap();
    let get = async |url: String| room.http.get(url).send().await.unwrap();
    let bearing = async |token: String| room.http.get(url(&room)).bearer_auth(token).send().await.unwrap();
    let stranger = get(url(&room)).await;
    assert_eq!(header(&stranger, "www-authenticate"), "Bearer");
    assert_eq!(refusal(stranger).await, refused(401, "token_missing"));
    assert_eq!(room.asked.load(Ordering::Relaxed), 1, "the coordinator knows who needs no token");
    assert_eq!(refusal(bearing("a.b.c".to_owned()).await).await, refused(401, "token_invalid"));
    let expired = room.token(|claims| claims.exp = claims.iat - 60);
    assert_eq!(refusal(bearing(expired).await).await, refused(401, "token_expired"));
    let elsewhere = room.token(|claims| claims.cls = "room102".to_owned());
    assert_eq!(refusal(bearing(elsewhere.clone()).await).await, refused(403, "forbidden"));
    let of_elsewhere = format!("{}/live/room102/snapshot.mp4?jwt={elsewhere}", room.base);
    assert_eq!(refusal(get(of_elsewhere).await).await, refused(409, "not_live"));

    let token = room.token(|_| {});
    for good in [url(&room), format!("{}/live/stream/snapshot.mp4", room.base)] {
        assert_eq!(get(format!("{good}?jwt={token}")).await.status(), StatusCode::OK, "{good}");
    }
    assert_eq!(
        refusal(get(format!("{}?jwt=a&jwt=b", url(&room))).await).await,
        refused(400, "query_invalid")
    );
    let post = room.http.post(url(&room)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(header(&post, "allow"), "GET, HEAD, OPTIONS");
    assert_eq!(refusal(post).await, refused(405, "method_not_allowed"));
}

#[tokio::test]
async fn looking_opens_no_session_and_uses_no_token_up() {
    let (mut room, publisher) = Room::with_lesson().await;
    publisher.push(picture(config(), true, 1)).unwrap();
    let token = room.token(|_| {});
    let first = room.join(&token).await;
    room.joined().await;
    for _ in 0..5 {
        let shown = room.http.get(url(&room)).bearer_auth(&token).send().await.unwrap();
        assert_eq!(shown.status(), StatusCode::OK);
    }
    // A token has two sessions, and both are free for viewers.
    let second = room.join(&token).await;
    room.joined().await;
    for session in [first, second] {
        assert_eq!(room.http.get(&session).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
    assert_eq!(room.counted("lectern_whep_sessions_displaced_total"), 0.0);
    // Also where nobody new may watch.
    room.draining.begin(None);
    assert_eq!(fetch(&room).await.status(), StatusCode::OK);
    problem(room.post(&token, OFFER).send().await.unwrap(), 503).await;
}

#[tokio::test]
async fn looks_count_for_the_limit_of_offers_whatever_they_find() {
    let room = Room::new(|config| (config.requests_at_once, config.requests_per_second) = (3, 1)).await;
    let _publisher = room.publish(true, true);
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(refusal(fetch(&room).await).await.0);
    }
    assert_eq!(answers, [404, 404, 404]);
    assert_eq!(refusal(fetch(&room).await).await, refused(429, "rate_limited"));
    problem(room.post(&room.token(|_| {}), OFFER).send().await.unwrap(), 429).await;
    let head = room.http.head(url(&room)).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(room.counted("lectern_whep_rate_limited_total"), 3.0);
    let endpoint = room.http.get(room.endpoint()).send().await.unwrap();
    assert_eq!(endpoint.status(), StatusCode::NO_CONTENT, "which costs nothing");
}

#[tokio::test]
async fn pages_of_other_origins_are_told_that_they_may_ask() {
    let room = Room::new(|_| {}).await;
    let preflight = room
        .http
        .request(Method::OPTIONS, url(&room))
        .header("Origin", "https://school.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization, if-none-match")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "*");
    assert_eq!(header(&preflight, "access-control-allow-methods"), "GET, HEAD, OPTIONS");
    assert_eq!(header(&preflight, "allow"), "GET, HEAD, OPTIONS");
    for allowed in ["Authorization", "If-None-Match"] {
        assert!(header(&preflight, "access-control-allow-headers").contains(allowed), "{allowed}");
    }
    assert_eq!(header(&preflight, "accept-post"), "");
}

/// Counts how often somebody wants a stream of another node.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Source for Counting {
    fn ensure<'a>(&'a self, _class: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn a_look_has_no_stream_come_from_another_node() {
    let source = Arc::new(Counting::default());
    let room = Room::with_source(Some(Arc::<Counting>::clone(&source)), |_| {}).await;
    assert_eq!(refusal(fetch(&room).await).await, refused(409, "not_live"));
    assert_eq!(source.0.load(Ordering::Relaxed), 0);
    problem(room.post(&room.token(|_| {}), OFFER).send().await.unwrap(), 409).await;
    assert_eq!(source.0.load(Ordering::Relaxed), 1, "a viewer does");
}

#[tokio::test]
async fn who_may_not_watch_any_more_may_not_look() {
    let (room, publisher) = Room::with_lesson().await;
    publisher.push(picture(config(), true, 1)).unwrap();
    let of = Revoked::Token { token: "ada's".to_owned() };
    let revocation = Revocation { of, issued_until: 0, good_until: u64::MAX };
    room.verifier.revoke(&[revocation], SystemTime::now());
    let token = room.token(|claims| claims.jti = "ada's".to_owned());
    let refused_now = room.http.get(url(&room)).bearer_auth(token).send().await.unwrap();
    assert_eq!(refusal(refused_now).await, refused(401, "token_revoked"));
    assert_eq!(fetch(&room).await.status(), StatusCode::OK);
}
