//! Streams from node to node over loopback.
mod cluster;

use std::time::Duration;

use cluster::{Authority, PATIENCE, content, frames, of, picture, sound, tracks};
use hub::State;
use link::PullEnd;
use media::Track;

/// What two nodes have of a lesson of three seconds.
#[tokio::test]
async fn every_frame_reaches_nodes_one_and_two_links_away_as_it_was_made() {
    let authority = Authority::new();
    let nodes = ["origin", "first", "second"].map(|name| authority.node(name));
    let publisher = nodes[0].hub.publish("room101", "s1", 7).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(picture(0)).unwrap();
    let mut made = nodes[0].watch().await;
    let first = nodes[1].pull(&nodes[0]);
    let mut at_first = nodes[1].watch().await;
    assert_eq!(frames(&mut at_first, 1).await[0].place, hub::Place::first(7), "the keyframe that it missed");
    let second = nodes[2].pull(&nodes[1]);
    let mut at_second = nodes[2].watch().await;
    frames(&mut at_second, 1).await;
    for index in 1..90 {
        publisher.push(picture(index)).unwrap();
        publisher.push(sound(index)).unwrap();
        tokio::task::yield_now().await;
    }
    let made = frames(&mut made, 1 + 89 * 2).await.split_off(1);
    for subscription in [&mut at_first, &mut at_second] {
        let got = frames(subscription, 89 * 2).await;
        for track in [Track::Video, Track::Audio] {
            let (made, got) = (of(&made, track), of(&got, track));
            assert!(made.iter().map(content).eq(got.iter().map(content)), "{track:?}");
        }
    }
    let status = nodes[2].hub.status("room101").unwrap();
    assert_eq!((status.state, status.epoch, &*status.session), (State::Active, 7, "s1"));
    assert_eq!((status.tracks, status.is_relayed), (tracks(), true));
    let mut changes = nodes[2].hub.changes();
    drop(publisher);
    let paused = async {
        while nodes[2].hub.status("room101").unwrap().state != State::Grace {
            changes.next().await;
        }
    };
    tokio::time::timeout(PATIENCE, paused).await.unwrap();
    // The end of the stream reaches both.
    nodes[0].hub.sweep(std::time::Instant::now() + Duration::from_secs(61));
    for pull in [first, second] {
        let end = tokio::time::timeout(PATIENCE, pull).await.unwrap().unwrap();
        assert!(matches!(end, PullEnd::Ended), "{end}");
    }
    assert!(nodes[2].hub.status("room101").is_none());
}

#[tokio::test]
async fn media_time_at_the_other_node_is_that_of_the_first() {
    let authority = Authority::new();
    let nodes = ["origin", "edge"].map(|name| authority.node(name));
    let publisher = nodes[0].hub.publish("room101", "s1", 1).unwrap();
    let _pull = nodes[1].pull(&nodes[0]);
    nodes[1].watch().await;
    drop(publisher);
    let [origin, edge] = nodes.each_ref().map(|node| node.hub.status("room101").unwrap().origin);
    let difference = origin.max(edge) - origin.min(edge);
    // Half of the round trip is known to be under way; the other half cannot be told from it.
    assert!(difference < Duration::from_millis(50), "{difference:?}");
}

#[tokio::test]
async fn who_is_not_of_the_cluster_gets_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let origin = ours.node("origin");
    let _publisher = origin.hub.publish("room101", "s1", 1).unwrap();
    let end = theirs.node("edge").pull(&origin).await.unwrap();
    assert!(matches!(end, PullEnd::Link(_) | PullEnd::Lost(_)), "a foreign certificate: {end}");
    let edge = ours.node("edge");
    let end = edge.link.pull("room101", "another", origin.address()).await.unwrap_err();
    assert!(matches!(end, PullEnd::Link(_)), "it is not who it should be: {end}");
    let end = edge.link.pull("room101", "Not a name", origin.address()).await.unwrap_err();
    assert!(end.to_string().contains("cannot be a node's name"), "{end}");
    let mut pulled = edge.link.pull("room102", "origin", origin.address()).await.unwrap();
    let end = pulled.run().await;
    assert!(matches!(&end, PullEnd::Refused(reason) if reason.contains("room102")), "{end}");
}

#[tokio::test]
async fn a_stream_does_not_go_round_in_circles() {
    let authority = Authority::new();
    let nodes = ["a", "b"].map(|name| authority.node(name));
    let publisher = nodes[0].hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let _pull = nodes[1].pull(&nodes[0]);
    nodes[1].watch().await;
    let end = tokio::time::timeout(PATIENCE, nodes[0].pull(&nodes[1])).await.unwrap().unwrap();
    assert!(matches!(end, PullEnd::Loop), "{end}");
}

#[tokio::test]
async fn a_node_that_is_gone_is_noticed() {
    let authority = Authority::new();
    let nodes = ["origin", "edge"].map(|name| authority.node(name));
    let _publisher = nodes[0].hub.publish("room101", "s1", 1).unwrap();
    let pull = nodes[1].pull(&nodes[0]);
    nodes[1].watch().await;
    nodes[0].drain.cancel();
    let [origin, _edge] = nodes;
    origin.task.await.unwrap();
    let end = tokio::time::timeout(PATIENCE, pull).await.unwrap().unwrap();
    assert!(matches!(end, PullEnd::Lost(_)), "{end}");
}

#[tokio::test]
async fn who_waits_for_a_node_that_does_not_answer_waits_no_longer_than_the_first() {
    let edge = Authority::new().node("edge");
    let silent = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let begun = std::time::Instant::now();
    let pull = |number: u32| {
        let link = edge.link.clone();
        tokio::spawn(async move { link.pull(&format!("room{number}"), "gone", address).await.err() })
    };
    for pull in (0..10).map(pull).collect::<Vec<_>>() {
        let end = tokio::time::timeout(PATIENCE, pull).await.unwrap().unwrap();
        assert!(matches!(end, Some(PullEnd::Link(_))), "{end:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "2 s each, one after the other, would be 20");
}

#[tokio::test]
async fn a_flood_of_handshakes_does_not_keep_nodes_out() {
    let authority = Authority::new();
    let [origin, edge] = ["origin", "edge"].map(|name| authority.node(name));
    let publisher = origin.hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(picture(0)).unwrap();
    // Each to another name, so that none shares the connection of another; none of them is the node's.
    let flood = (0..400).map(|number| {
        let (link, address) = (edge.link.clone(), origin.address());
        tokio::spawn(async move { link.pull("room101", &format!("name-{number}"), address).await.err() })
    });
    let flood: Vec<_> = flood.collect();
    for refused in flood {
        assert!(tokio::time::timeout(PATIENCE, refused).await.unwrap().unwrap().is_some());
    }
    let _pull = edge.pull(&origin);
    frames(&mut edge.watch().await, 1).await;
}
