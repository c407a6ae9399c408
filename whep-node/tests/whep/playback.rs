//! What a player says of what its people see and hear.
use control::api::Playback;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::room::{CLASS, Room, problem};

async fn say(room: &Room, session: &str, report: &Value) -> Response {
    room.http.post(format!("{session}/playback")).json(report).send().await.unwrap()
}

fn told(room: &Room) -> Playback {
    room.audience.playbacks().remove(CLASS).unwrap_or_default()
}

#[tokio::test]
async fn what_players_say_is_added_up_and_ends_with_their_sessions() {
    let (room, _publisher) = Room::with_lesson().await;
    let first = room.join(&room.token(|_| {})).await;
    let second = room.join(&room.token(|claims| claims.jti = "another".to_owned())).await;
    assert_eq!(told(&room), Playback::default());
    let well =
        json!({ "is_seen": true, "is_heard": true, "delay_ms": 120, "packets": 900, "first_picture_ms": 80 });
    assert_eq!(say(&room, &first, &well).await.status(), StatusCode::NO_CONTENT);
    let badly = json!({ "is_seen": true, "delay_ms": 300, "frozen_ms": 2_000, "freezes": 3, "packets": 400 });
    assert_eq!(say(&room, &second, &badly).await.status(), StatusCode::NO_CONTENT);
    let both = Playback { reporting: 2, seeing: 2, hearing: 1, struggling: 1, delays: 2, delay_ms_sum: 420 };
    assert_eq!(told(&room), both);
    // The last word counts, and nobody counts twice.
    assert_eq!(
        say(&room, &second, &json!({ "is_heard": true, "delay_ms": 70_000 })).await.status(),
        StatusCode::NO_CONTENT
    );
    let better =
        Playback { reporting: 2, seeing: 1, hearing: 2, struggling: 0, delays: 1, delay_ms_sum: 120 };
    assert_eq!(told(&room), better);
    assert_eq!(room.http.delete(&first).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(told(&room), Playback { reporting: 1, hearing: 1, ..Playback::default() });
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_who_is_nobody_is_not_counted() {
    let (room, _publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    for report in [
        json!([1]),
        json!({ "delay_ms": -1 }),
        json!({ "packets": 1e30 }),
        json!({ "is_seen": "x".repeat(2000) }),
    ] {
        problem(say(&room, &session, &report).await, 400).await;
    }
    let plain = room.http.post(format!("{session}/playback")).body("{}").send().await.unwrap();
    problem(plain, 415).await;
    let nobody = format!("{}/live/{CLASS}/whep/{}", room.base, "a".repeat(32));
    problem(say(&room, &nobody, &json!({})).await, 404).await;
    problem(say(&room, &session.replace(CLASS, "other"), &json!({})).await, 404).await;
    assert_eq!(told(&room), Playback::default());
}

#[tokio::test]
async fn players_of_a_school_may_all_say_it() {
    let (room, _publisher) = Room::with_lesson().await;
    let session = room.join(&room.token(|_| {})).await;
    // More than an address may ask for anything else.
    for _ in 0..1_000 {
        assert_eq!(say(&room, &session, &json!({})).await.status(), StatusCode::NO_CONTENT);
    }
}
