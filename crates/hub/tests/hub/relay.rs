//! A stream that one hub passes on to another.
use std::task::Poll;
use std::time::{Duration, Instant};

use hub::{
    Epoch, Hub, Limits, Place, Refused, Relay, State, StreamFrame, Subscription, Superseded, Timeline, Update,
};
use media::{MediaTime, Track};

use crate::lesson::{audio, tracks, video};

fn hub() -> Hub {
    Hub::new(Limits::default())
}

fn place(epoch: u64, group: u64, index: u32) -> Place {
    Place { epoch, group, index }
}

/// The epoch that a subscriber is told.
async fn epoch(subscription: &mut Subscription) -> Epoch {
    loop {
        if let Update::Epoch(epoch) = subscription.next().await.expect("the stream lives") {
            return epoch;
        }
    }
}

/// What waits for a subscriber now.
async fn waiting(subscription: &mut Subscription) -> Vec<StreamFrame> {
    let mut frames = Vec::new();
    while let Ok(Some(update)) = tokio::time::timeout(Duration::ZERO, subscription.next()).await {
        if let Update::Frame(frame) = update {
            frames.push((*frame).clone());
        }
    }
    frames
}

/// Passes on what waits, as a node does that has one hub's stream in another. Returns how many frames were new there.
async fn pass(from: &mut Subscription, to: &Relay) -> usize {
    let mut count = 0;
    for StreamFrame { place, epoch_time, mut frame } in waiting(from).await {
        frame.set_time(epoch_time);
        count += usize::from(to.push(place, frame).expect("nobody else feeds it"));
    }
    count
}

/// An epoch of another node whose media time was zero this long ago.
fn foreign(number: u64, timeline: u64, age: Duration) -> Epoch {
    let zero = Instant::now() - age;
    Epoch {
        number,
        session: format!("s{number}"),
        timeline: Timeline { id: timeline, zero },
        path: vec!["other".to_owned()],
    }
}

#[tokio::test]
async fn frames_keep_their_places_and_times_over_two_nodes() {
    let hubs = [hub(), hub(), hub()];
    let publisher = hubs[0].publish("room101", "s7", 7).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let mut at_first = hubs[0].subscribe("room101").unwrap();
    let relay = hubs[1].relay("room101", &epoch(&mut at_first).await).unwrap();
    let mut at_second = hubs[1].subscribe("room101").unwrap();
    let next = hubs[2].relay("room101", &epoch(&mut at_second).await).unwrap();
    let mut at_third = hubs[2].subscribe("room101").unwrap();
    for (time, keyframe) in [(0, true), (33, false), (66, true), (100, false)] {
        publisher.push(video(time, keyframe, 100)).unwrap();
    }
    for packet in 0..60 {
        publisher.push(audio(packet * 20)).unwrap();
    }
    assert_eq!(pass(&mut at_first, &relay).await, 64);
    assert_eq!(pass(&mut at_second, &next).await, 64);
    let got = waiting(&mut at_third).await;
    let of = |track| got.iter().filter(move |frame| frame.frame.track() == track).map(|frame| frame.place);
    let pictures = [place(7, 0, 0), place(7, 0, 1), place(7, 1, 0), place(7, 1, 1)];
    assert!(of(Track::Video).eq(pictures));
    assert!(of(Track::Audio).eq((0..60).map(|packet| place(7, packet / 50, (packet % 50) as u32))));
    assert!(
        got.iter().all(|frame| frame.frame.time() == frame.epoch_time),
        "all nodes count as the first one"
    );
    let status = hubs[2].status("room101").unwrap();
    assert_eq!((status.epoch, &*status.session, status.is_relayed), (7, "s7", true));
}

#[tokio::test]
async fn who_changes_the_node_it_takes_a_stream_from_gets_no_frame_twice() {
    let (origin, edge) = (hub(), hub());
    let publisher = origin.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(video(0, true, 100)).unwrap();
    publisher.push(video(33, false, 100)).unwrap();
    let mut one_way = origin.subscribe("room101").unwrap();
    let first = edge.relay("room101", &epoch(&mut one_way).await).unwrap();
    first.set_tracks(&tracks()).unwrap();
    let mut watching = edge.subscribe("room101").unwrap();
    assert_eq!(pass(&mut one_way, &first).await, 2);
    publisher.push(video(66, false, 100)).unwrap();
    let mut other_way = origin.subscribe("room101").unwrap();
    let second = edge.relay("room101", &epoch(&mut other_way).await).unwrap();
    assert!(first.superseded().is_cancelled());
    assert_eq!(first.push(place(1, 0, 2), video(66, false, 100)), Err(Superseded));
    drop(first);
    assert_eq!(
        edge.status("room101").unwrap().state,
        State::Active,
        "the end of the old way changes nothing"
    );
    assert_eq!(pass(&mut other_way, &second).await, 1);
    let got: Vec<_> =
        waiting(&mut watching).await.iter().map(|frame| frame.frame.time().as_millis()).collect();
    assert_eq!(got, [0, 33, 66]);
}

#[tokio::test]
async fn a_publisher_who_comes_back_at_another_node_is_continued_by_the_clock() {
    let edge = hub();
    let before = edge.relay("room101", &foreign(1, 100, Duration::from_secs(10))).unwrap();
    before.set_tracks(&tracks()).unwrap();
    let mut watching = edge.subscribe("room101").unwrap();
    before.push(place(1, 0, 0), video(9_000, true, 100)).unwrap();
    // At the other node media time began three seconds ago, and here it is ten now.
    let after = edge.relay("room101", &foreign(2, 200, Duration::from_secs(3))).unwrap();
    after.set_tracks(&tracks()).unwrap();
    assert!(before.superseded().is_cancelled());
    after.push(place(2, 0, 0), video(2_500, true, 100)).unwrap();
    after.push(place(2, 0, 0), audio(2_520)).unwrap();
    let got = waiting(&mut watching).await;
    let times: Vec<_> = got.iter().map(|frame| frame.frame.time().as_millis()).collect();
    assert!((9_480..=9_520).contains(&times[1]), "{times:?}");
    assert_eq!(times[2] - times[1], 20, "sound and picture stay together");
    assert_eq!((times[1] - 2_500) % 20, 0, "packets of sound stay in their rhythm");
    assert_eq!(got[1].epoch_time, MediaTime::from_millis(2_500), "what other nodes are told");
}

#[tokio::test]
async fn time_goes_on_though_clocks_are_not_the_same() {
    let edge = hub();
    let before = edge.relay("room101", &foreign(1, 100, Duration::from_secs(10))).unwrap();
    let mut watching = edge.subscribe("room101").unwrap();
    before.push(place(1, 0, 0), video(10_300, true, 100)).unwrap();
    let after = edge.relay("room101", &foreign(2, 200, Duration::from_secs(1))).unwrap();
    after.push(place(2, 0, 0), video(1_000, true, 100)).unwrap();
    after.push(place(2, 0, 1), video(1_033, false, 100)).unwrap();
    let times: Vec<_> =
        waiting(&mut watching).await.iter().map(|frame| frame.frame.time().as_millis()).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert_eq!(times[2] - times[1], 33);
}

#[test]
fn an_older_publisher_does_not_come_back() {
    let node = hub();
    let relay = node.relay("room101", &foreign(5, 1, Duration::ZERO)).unwrap();
    assert!(matches!(node.relay("room101", &foreign(4, 2, Duration::ZERO)), Err(Refused::Superseded)));
    assert!(matches!(node.publish("room101", "s5", 5), Err(Refused::Superseded)));
    assert!(!relay.superseded().is_cancelled());
    let publisher = node.publish("room101", "s6", 6).unwrap();
    assert!(relay.superseded().is_cancelled(), "it publishes here now");
    assert!(matches!(node.relay("room101", &foreign(6, 3, Duration::ZERO)), Err(Refused::Superseded)));
    assert!(!node.status("room101").unwrap().is_relayed);
    node.relay("room101", &foreign(7, 3, Duration::ZERO)).unwrap();
    assert!(publisher.superseded().is_cancelled());
}

#[tokio::test]
async fn what_nobody_takes_any_more_is_forgotten_at_once() {
    let node = hub();
    let relay = node.relay("room101", &foreign(1, 1, Duration::ZERO)).unwrap();
    let mut watching = node.subscribe("room101").unwrap();
    assert!(!node.release(&relay), "somebody takes it");
    assert!(matches!(watching.next().await, Some(Update::Epoch(_))));
    drop(watching);
    assert!(node.release(&relay));
    assert!(node.status("room101").is_none());
    assert!(relay.superseded().is_cancelled());
}

#[tokio::test]
async fn who_has_a_stream_from_here_hears_when_it_comes_by_another_way() {
    let edge = hub();
    let by = |node: &str| Epoch { path: vec![node.to_owned()], ..foreign(1, 100, Duration::ZERO) };
    let first = edge.relay("room101", &by("a")).unwrap();
    let mut passed_on = edge.subscribe("room101").unwrap();
    assert_eq!(epoch(&mut passed_on).await.path, ["a"]);
    let _second = edge.relay("room101", &by("b")).unwrap();
    assert!(first.superseded().is_cancelled());
    let news = passed_on.try_next();
    let Poll::Ready(Some(Update::Epoch(epoch))) = news else {
        panic!("or it could come back to where it was: {news:?}")
    };
    assert_eq!(epoch.path, ["b"]);
    let _again = edge.relay("room101", &by("b")).unwrap();
    assert!(passed_on.try_next().is_pending(), "the same way is no news");
}
