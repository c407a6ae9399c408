//! What viewers and the coordinator hear when a part of the node panics.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::room::{OFFER, Part, Room};

/// How long a machine that is busy may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_viewers_of_the_other_shards_are_let_go_when_one_panics() {
    let mut room = Room::new(|config| config.shards = 2).await;
    let _publisher = room.publish(true, true);
    // The first sits on the first shard, which is to panic, and the second on the other one.
    let mut viewers = Vec::new();
    for _ in 0..2 {
        room.join(&room.token(|_| {})).await;
        viewers.push(room.joined().await);
    }
    assert!(room.fail(Part::Shard).await.contains("shard 0 panicked"));
    assert_eq!(room.left().await, (viewers[1].clone(), "drained".to_owned()));
}

#[tokio::test]
async fn a_stream_that_nobody_feeds_any_more_lets_its_viewers_go_and_ends_the_node() {
    let (mut room, _publisher) = Room::with_lesson().await;
    room.join(&room.token(|_| {})).await;
    let viewer = room.joined().await;
    assert_eq!(room.fail(Part::Feed).await, "a task that feeds a stream panicked");
    assert_eq!(room.left().await, (viewer, "stream_ended".to_owned()));
}

/// The coordinator's connections are the publishers' too.
#[tokio::test]
async fn strangers_without_tokens_keep_few_questions_open() {
    let (room, _publisher) = Room::with_lesson().await;
    let closed = Arc::clone(&room.admitting).write_owned().await;
    let post = || {
        let request = room.http.post(room.endpoint()).header("Content-Type", "application/sdp").body(OFFER);
        tokio::spawn(request.send())
    };
    let waiting: Vec<_> = (0..16).map(|_| post()).collect();
    let asked = async {
        while room.asked.load(Ordering::Relaxed) < 16 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("sixteen questions");
    let refused = post().await.unwrap().unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("node_busy"));
    drop(closed);
    for waiting in waiting {
        let status = waiting.await.unwrap().unwrap().status().as_u16();
        // On a machine that stands still for seconds the node does not wait for the coordinator.
        assert!([401, 503].contains(&status), "{status}");
    }
}
