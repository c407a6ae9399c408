//! The hub through its public door.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Hub, Limits, State, Subscription, Superseded, Update};
use media::{AudioFrame, Frame, MediaTime, Tracks, VideoConfig, VideoFrame};

fn config() -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        sps: Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1f]),
        pps: vec![Bytes::from_static(&[0x68, 0xce])],
        profile_level_id: [0x42, 0xc0, 0x1f],
        width: 640,
        height: 360,
    })
}

fn video(millis: i64, keyframe: bool, len: usize) -> Frame {
    Frame::Video(VideoFrame {
        time: MediaTime::from_millis(millis),
        keyframe,
        config: config(),
        nals: Arc::from([Bytes::from(vec![0x41; len])]),
        arrival: Instant::now(),
    })
}

fn audio(millis: i64) -> Frame {
    Frame::Audio(AudioFrame {
        time: MediaTime::from_millis(millis),
        packet: Bytes::from_static(&[0xf8, 0xff, 0xfe]),
        arrival: Instant::now(),
    })
}

fn tracks() -> Tracks {
    Tracks { video: Some(config()), audio: true }
}

async fn frames(subscription: &mut Subscription, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        if let Update::Frame(frame) = subscription.next().await.expect("the stream lives") {
            frames.push(frame);
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
    let publisher = hub.publish("room101", "s1").unwrap();
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
    let first = hub.publish("room101", "s1").unwrap();
    first.set_tracks(&tracks()).unwrap();
    let mut subscription = hub.subscribe("room101").unwrap();
    first.push(video(500, true, 10)).unwrap();
    let second = hub.publish("room101", "s2").unwrap();
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
    let publisher = hub.publish("room101", "s1").unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let mut subscription = hub.subscribe("room101").unwrap();
    drop(publisher);
    let now = Instant::now();
    assert!(hub.sweep(now + Duration::from_secs(59)).is_empty());
    assert_eq!(hub.status("room101").unwrap().state, State::Grace);
    assert!(matches!(subscription.next().await, Some(Update::Tracks(_))));
    assert!(matches!(subscription.next().await, Some(Update::Paused)));
    assert_eq!(hub.sweep(now + Duration::from_secs(61)).len(), 1);
    assert!(subscription.next().await.is_none());
    assert!(hub.status("room101").is_none());
}

#[tokio::test]
async fn a_slow_subscriber_loses_video_up_to_the_next_keyframe_and_the_oldest_sound() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1").unwrap();
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
        let Some(Update::Frame(frame)) = slow.next().await else { continue };
        seen.push(frame.time().as_millis());
    }
    assert!(seen.len() <= 640, "{} updates waited", seen.len());
    assert!(seen.is_sorted(), "what is left is in order");
    assert!(seen.contains(&80_000) && seen.contains(&79_960), "the newest video and sound are left");
}

#[tokio::test]
async fn a_group_of_pictures_without_end_is_cut_to_its_keyframe() {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("room101", "s1").unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(video(0, true, 1000)).unwrap();
    for index in 1..40 {
        publisher.push(video(index * 40, false, 1 << 20)).unwrap();
    }
    let mut late = hub.subscribe("room101").unwrap();
    publisher.push(video(2000, true, 10)).unwrap();
    assert_eq!(times(&frames(&mut late, 2).await), [0, 2000]);
}

#[test]
fn a_full_hub_refuses_new_names_but_not_known_ones() {
    let hub = Hub::new(Limits { streams_max: 1, ..Limits::default() });
    let _first = hub.publish("a", "s1").unwrap();
    assert!(hub.publish("b", "s2").is_err());
    assert!(hub.publish("a", "s3").is_ok());
}
