//! What viewers and the coordinator hear when a part of the node panics.
use crate::room::{Part, Room};

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
