//! What viewers are told while they watch, above all where to go when the node is about to end.
use std::time::Duration;

use reqwest::{Response, StatusCode};

use crate::room::{CLASS, OFFER, Room, header, problem};

/// How long a machine that is busy may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for events of these kinds, a JSON list.
async fn subscribe(room: &Room, session: &str, kinds: &str) -> Response {
    let request = room.http.post(format!("{session}/sse")).header("Content-Type", "application/json");
    request.body(kinds.to_owned()).send().await.unwrap()
}

/// The next event of a stream, without its comments; nothing at its end.
async fn next(stream: &mut Response) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\n\n") || text.starts_with(':') {
        if text.ends_with("\n\n") {
            text.clear();
        }
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("an event").unwrap()?;
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    Some(text.trim_end().to_owned())
}

#[tokio::test]
async fn a_viewer_that_asks_is_told_where_to_go_when_its_node_drains() {
    let (room, _publisher) = Room::with_lesson().await;
    let joined = room.post(&room.token(|_| {}), OFFER).send().await.unwrap();
    let session = format!("{}{}", room.base, header(&joined, "location"));
    let link = header(&joined, "link");
    let path = session.strip_prefix(&room.base).unwrap();
    assert!(
        link.contains(&format!(
            "<{path}/sse>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\""
        )),
        "{link}"
    );
    assert_eq!(
        room.http.get(format!("{session}/sse")).send().await.unwrap().status(),
        404,
        "it has not asked"
    );
    for unknown in ["[\"layers\"]", "{}", "", &format!("[{}\"active\"]", "\"active\",".repeat(300))] {
        let refused = problem(subscribe(&room, &session, unknown).await, 400).await;
        assert!(refused.contains("reconnect"), "{refused}");
    }
    let taken = subscribe(&room, &session, "[\"active\",\"reconnect\"]").await;
    assert_eq!((taken.status(), header(&taken, "location")), (StatusCode::CREATED, format!("{path}/sse")));
    let mut stream = room.http.get(format!("{session}/sse")).send().await.unwrap();
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    assert_eq!(header(&stream, "access-control-allow-origin"), "*");
    assert_eq!(next(&mut stream).await.unwrap(), "event: active\ndata: {}");

    room.draining.begin(None);
    let told = next(&mut stream).await.unwrap();
    assert_eq!(told, "event: reconnect\ndata: {\"url\":\"http://other/s1\"}");
    let refused = room.post(&room.token(|_| {}), OFFER).send().await.unwrap();
    assert!(problem(refused, 503).await.contains("no new viewers"));
    room.draining.undo();
    room.join(&room.token(|_| {})).await;

    let left = room.http.delete(&session).send().await.unwrap();
    assert_eq!(left.status(), StatusCode::OK);
    assert_eq!(next(&mut stream).await, None, "the stream ends with the session");
}

#[tokio::test]
async fn viewers_are_told_when_their_teacher_goes_and_comes_back() {
    let (room, publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    subscribe(&room, &session, "[\"active\",\"inactive\"]").await;
    let mut stream = room.http.get(format!("{session}/sse")).send().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), "event: active\ndata: {}");
    drop(publisher);
    assert_eq!(next(&mut stream).await.unwrap(), "event: inactive\ndata: {}");
    let _again = room.publish(true, true);
    assert_eq!(next(&mut stream).await.unwrap(), "event: active\ndata: {}");
    assert!(room.endpoint().contains(CLASS));
}
