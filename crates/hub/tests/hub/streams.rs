//! One hub: publishers, subscribers, and what is dropped when they are slow.
use std::time::{Duration, Instant};

use hub::{Hub, Limits, State, Subscription, Superseded, Update};
use media::{Frame, MediaTime, VideoFrame};

use crate::lesson::{audio, tracks, video};

/// Frames that already wait: what does not is missing, and nobody waits for it.
async fn frames(subscription: &mut Subscription, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let update = tokio::time::timeout(Duration::ZERO, subscription.next()).await;
        let update = update.unwrap_or_else(|_| panic!("only {} of {count} frames", frames.len()));
        if let Update::Frame(item) = update.expect("the stream lives") {
            frames.push(item.frame.clone());
        }
    }
    frames
}

fn times(frames: &[Frame]) -> Vec<i64> {
    frames.iter().map(|frame| frame.time().as_millis()).collect()
}

#[tokio::test]
async fn a_late_subscriber_starts_at_the_last_keyframe_and_misses_nothing_after_it() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    for (time, keyframe) in [(0, true), (33, false), (66, true), (100, false)] {
        publisher.push(video(time, keyframe, 100)).unwrap();
    }
    publisher.push(audio(100)).unwrap();
    let mut late = hub.subscribe("room101").unwrap();
    publisher.push(video(133, false, 100)).unwrap();
    assert_eq!(times(&frames(&mut late, 3).await), [66, 100, 133]);
}

#[tokio::test]
async fn a_second_publisher_takes_over_and_the_subscriber_stays() {
    let hub = Hub::new(Limits::default());
    let first = hub.publish("room101", "s1", 1).unwrap();
    first.set_tracks(&tracks()).unwrap();
    let mut subscription = hub.subscribe("room101").unwrap();
    first.push(video(500, true, 10)).unwrap();
    let second = hub.publish("room101", "s2", 2).unwrap();
    assert!(first.superseded().is_cancelled());
    assert_eq!(first.push(video(533, false, 10)), Err(Superseded));
    assert_eq!(second.resume_after(), MediaTime::from_millis(500));
    drop(first);
    second.set_tracks(&tracks()).unwrap();
    second.push(video(600, true, 10)).unwrap();
    assert_eq!(times(&frames(&mut subscription, 2).await), [500, 600]);
    assert_eq!(
        hub.status("room101").unwrap().state,
        State::Active,
        "the old publisher's end changes nothing"
    );
}

#[tokio::test]
async fn a_vanished_publisher_leaves_the_stream_waiting_through_the_grace_period() {
    let hub = Hub::new(Limits { grace: Duration::from_secs(60), ..Limits::default() });
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let mut subscription = hub.subscribe("room101").unwrap();
    drop(publisher);
    let now = Instant::now();
    assert!(hub.sweep(now + Duration::from_secs(59)).is_empty());
    assert_eq!(hub.status("room101").unwrap().state, State::Grace);
    assert!(matches!(subscription.next().await, Some(Update::Epoch(_))));
    assert!(matches!(subscription.next().await, Some(Update::Tracks(_))));
    assert!(matches!(subscription.next().await, Some(Update::Paused)));
    assert_eq!(hub.sweep(now + Duration::from_secs(61)).len(), 1);
    assert!(subscription.next().await.is_none());
    assert!(hub.status("room101").is_none());
}

#[tokio::test]
async fn a_slow_subscriber_loses_video_up_to_the_next_keyframe_and_the_oldest_sound() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let mut slow = hub.subscribe("room101").unwrap();
    for index in 0..2000 {
        publisher.push(video(index * 40, index % 1000 == 0, 10)).unwrap();
        publisher.push(audio(index * 40)).unwrap();
    }
    publisher.push(video(80_000, true, 10)).unwrap();
    publisher.push(video(80_040, false, 10)).unwrap();
    assert!(slow.dropped_frames() > 3000);
    let mut seen = Vec::new();
    while seen.last() != Some(&80_040) {
        let Some(Update::Frame(item)) = slow.next().await else { continue };
        seen.push(item.frame.time().as_millis());
    }
    assert!(seen.len() <= 640, "{} updates waited", seen.len());
    assert!(seen.is_sorted(), "what is left is in order");
    assert!(seen.contains(&80_000) && seen.contains(&79_960), "the newest video and sound are left");
}

#[tokio::test]
async fn a_viewer_of_a_cut_group_gets_its_keyframe_and_then_nothing_that_needs_what_is_missing() {
    // By bytes, by time at 30 and at 60 frames a second, and by the number of frames.
    for (step_ms, len, count) in [(40, 1 << 20, 40), (33, 100, 1100), (16, 100, 2400), (1, 100, 2400)] {
        let hub = Hub::new(Limits::default());
        let publisher = hub.publish("room101", "s1", 1).unwrap();
        publisher.set_tracks(&tracks()).unwrap();
        publisher.push(video(0, true, 1000)).unwrap();
        for index in 1..count {
            publisher.push(video(index * step_ms, false, len)).unwrap();
        }
        let mut late = hub.subscribe("room101").unwrap();
        let end_ms = count * step_ms;
        publisher.push(video(end_ms, false, 10)).unwrap();
        publisher.push(audio(end_ms + 1)).unwrap();
        let first = times(&frames(&mut late, 2).await);
        assert_eq!(first, [0, end_ms + 1], "frames of {len} bytes every {step_ms} ms");
        publisher.push(video(end_ms + 2, true, 10)).unwrap();
        publisher.push(video(end_ms + 3, false, 10)).unwrap();
        assert_eq!(times(&frames(&mut late, 2).await), [end_ms + 2, end_ms + 3]);
        assert_eq!((hub.stats().groups_cut(), hub.stats().video_frames_dropped()), (1, 1));
    }
}

/// A frame of an encoder that sends one keyframe, and from then on a recovery point every two seconds.
fn refreshed(index: i64) -> Frame {
    let Frame::Video(frame) = video(index * 33, index == 0, 100) else { unreachable!("it is video") };
    Frame::Video(VideoFrame { recovery_point: index > 0 && index % 60 == 0, ..frame })
}

#[tokio::test]
async fn a_viewer_of_a_stream_without_further_keyframes_gets_what_makes_the_picture_whole() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    for index in 0..9_030 {
        publisher.push(refreshed(index)).unwrap();
    }
    let mut late = hub.subscribe("room101").unwrap();
    publisher.push(refreshed(9_030)).unwrap();
    let got = times(&frames(&mut late, 92).await);
    let expected: Vec<i64> = [0].into_iter().chain(8_940..=9_030).map(|index| index * 33).collect();
    assert_eq!(got, expected, "the keyframe, and the frames from the recovery point before the last");
    assert_eq!(hub.stats().groups_cut(), 1);
    assert_eq!(late.dropped_frames(), 0);
}

#[tokio::test]
async fn a_slow_subscriber_of_a_stream_without_further_keyframes_goes_on_at_a_recovery_point() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let mut slow = hub.subscribe("room101").unwrap();
    for index in 0..700 {
        publisher.push(refreshed(index)).unwrap();
    }
    let waited = times(&frames(&mut slow, 640).await);
    assert!(waited.into_iter().eq((0..640).map(|index| index * 33)));
    for index in 700..730 {
        publisher.push(refreshed(index)).unwrap();
    }
    assert_eq!(times(&frames(&mut slow, 10).await).first(), Some(&(720 * 33)));
}

#[tokio::test]
async fn a_group_of_29_seconds_at_60_frames_a_second_reaches_a_late_viewer_whole() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let sent: Vec<i64> = (0..29 * 60).map(|index| index * 1000 / 60).collect();
    for time in &sent {
        publisher.push(video(*time, *time == 0, 100)).unwrap();
    }
    let mut late = hub.subscribe("room101").unwrap();
    publisher.push(video(29_000, false, 100)).unwrap();
    let got = times(&frames(&mut late, sent.len() + 1).await);
    assert!(got.starts_with(&sent) && got.ends_with(&[29_000]));
    assert_eq!(late.dropped_frames(), 0);
}

#[tokio::test]
async fn the_snapshot_leaves_a_subscriber_the_whole_queue() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    for index in 0..700 {
        publisher.push(video(index * 33, index == 0, 10)).unwrap();
    }
    let mut slow = hub.subscribe("room101").unwrap();
    for index in 700..1340 {
        publisher.push(video(index * 33, false, 10)).unwrap();
    }
    assert_eq!(slow.dropped_frames(), 0);
    publisher.push(video(1340 * 33, false, 10)).unwrap();
    assert_eq!(slow.dropped_frames(), 1, "the queue itself is as long as ever");
    publisher.push(video(1341 * 33, true, 10)).unwrap();
    assert_eq!(times(&frames(&mut slow, 1).await), [1341 * 33], "and a keyframe still replaces what waits");
    assert_eq!(hub.stats().video_frames_dropped(), 1341);
}

#[tokio::test]
async fn a_publisher_that_comes_and_goes_fills_no_queue() {
    let hub = Hub::new(Limits::default());
    let mut slow = None;
    for index in 0..1000 {
        let publisher = hub.publish("room101", &format!("s{index}"), index + 1).unwrap();
        publisher.set_tracks(&tracks()).unwrap();
        slow = slow.or_else(|| hub.subscribe("room101"));
    }
    let mut slow = slow.unwrap();
    assert!(hub.stats().notices_dropped() > 1900);
    let mut last = None;
    for _ in 0..64 {
        last = slow.next().await;
    }
    assert!(matches!(last, Some(Update::Paused)), "the newest is what counts");
}

#[test]
fn a_full_hub_refuses_new_names_but_not_known_ones() {
    let hub = Hub::new(Limits { streams_max: 1, ..Limits::default() });
    let _first = hub.publish("a", "s1", 1).unwrap();
    assert!(hub.publish("b", "s2", 1).is_err());
    assert_eq!(hub.stats().streams_refused(), 1);
    assert!(hub.publish("a", "s3", 2).is_ok());
}

#[tokio::test]
async fn a_publisher_whose_key_is_revoked_is_told_to_go_and_the_stream_waits_for_another() {
    let hub = Hub::new(Limits::default());
    let (first, other) = (hub.publish("room101", "s1", 1).unwrap(), hub.publish("room102", "s2", 1).unwrap());
    for (publisher, key) in [(&first, "key 1"), (&other, "key 2")] {
        publisher.set_key(key).unwrap();
        publisher.set_tracks(&tracks()).unwrap();
    }
    assert_eq!(hub.status("room101").unwrap().key, "key 1");
    let mut subscription = hub.subscribe("room101").unwrap();
    hub.revoke("key 1");
    assert!(first.revoked().is_cancelled() && first.superseded().is_cancelled());
    assert_eq!(first.push(video(0, true, 10)), Err(Superseded));
    assert!(!other.superseded().is_cancelled(), "it has another key");
    assert_eq!(hub.status("room101").unwrap().state, State::Grace);
    drop(first);
    hub.revoke("key 1");
    let next = hub.publish("room101", "s3", 2).unwrap();
    assert_eq!(hub.status("room101").unwrap().key, "", "the next one's key is not known yet");
    hub.revoke("key 1");
    assert!(!next.revoked().is_cancelled() && !next.superseded().is_cancelled());
    next.set_tracks(&tracks()).unwrap();
    next.push(video(600, true, 10)).unwrap();
    assert_eq!(times(&frames(&mut subscription, 1).await), [600], "who watches has stayed");
    let taken_over = next.revoked();
    let _third = hub.publish("room101", "s4", 3).unwrap();
    assert!(next.superseded().is_cancelled() && !taken_over.is_cancelled(), "that is no matter of keys");
}
