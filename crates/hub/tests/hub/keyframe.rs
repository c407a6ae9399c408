//! The newest keyframe of a stream, and what is made of it.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Hub, Keyframe, Limits, Place};
use media::Tracks;

use crate::lesson::{audio, tracks, video};

fn hub() -> Hub {
    Hub::new(Limits::default())
}

fn place(hub: &Hub) -> Option<Place> {
    hub.keyframe("room101").map(|keyframe| keyframe.place)
}

fn at(epoch: u64, group: u64) -> Option<Place> {
    Some(Place { epoch, group, index: 0 })
}

/// What says when it is dropped, as the files that are made of keyframes do not.
struct Traced(Arc<()>);

impl AsRef<[u8]> for Traced {
    fn as_ref(&self) -> &[u8] {
        b"file"
    }
}

fn traced(trace: &Arc<()>) -> impl FnOnce(&Keyframe) -> Option<Bytes> {
    let owner = Traced(Arc::clone(trace));
    move |_| {
        assert!(Arc::strong_count(&owner.0) > 1);
        Some(Bytes::from_owner(owner))
    }
}

fn never(_: &Keyframe) -> Option<Bytes> {
    panic!("it is there already")
}

#[test]
fn the_newest_keyframe_is_known_by_epoch_and_number_whatever_came_after_it() {
    let hub = hub();
    assert_eq!(place(&hub), None, "there is no stream");
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(audio(0)).unwrap();
    assert_eq!(place(&hub), None, "no picture has come");
    for (time, keyframe) in [(0, true), (33, false)] {
        publisher.push(video(time, keyframe, 100)).unwrap();
        assert_eq!(place(&hub), at(1, 0));
    }
    publisher.push(video(66, true, 7)).unwrap();
    publisher.push(video(100, false, 100)).unwrap();
    assert_eq!(place(&hub), at(1, 1));
    assert_eq!(hub.keyframe("room101").unwrap().nals[0].len(), 7);
    // The group outgrows its bounds, and its keyframe stays.
    for index in 0..20 {
        publisher.push(video(133 + index, false, 1 << 20)).unwrap();
    }
    assert_eq!(hub.stats().groups_cut(), 1);
    assert_eq!(place(&hub), at(1, 1));
    let next = hub.publish("room101", "s2", 2).unwrap();
    assert_eq!(place(&hub), None, "of another publisher nothing is shown");
    next.set_tracks(&tracks()).unwrap();
    next.push(video(5000, true, 9)).unwrap();
    assert_eq!(place(&hub), at(2, 0));
}

#[test]
fn a_lesson_that_goes_on_without_its_picture_has_no_keyframe() {
    let hub = hub();
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(video(0, true, 100)).unwrap();
    publisher.set_tracks(&Tracks { video: None, audio: true }).unwrap();
    assert_eq!(place(&hub), None);
}

#[test]
fn a_keyframe_is_not_copied_and_what_is_made_of_it_is_made_once() {
    let hub = hub();
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    let frame = video(0, true, 100);
    let media::Frame::Video(sent) = &frame else { panic!("a picture") };
    let nals = Arc::clone(&sent.nals);
    publisher.push(frame).unwrap();
    let keyframe = hub.keyframe("room101").unwrap();
    assert!(Arc::ptr_eq(&keyframe.nals, &nals));
    let trace = Arc::new(());
    assert_eq!(keyframe.made(traced(&trace)).unwrap(), "file");
    publisher.push(video(33, false, 100)).unwrap();
    assert_eq!(hub.keyframe("room101").unwrap().made(never).unwrap(), "file");
    drop(keyframe);
    assert_eq!(Arc::strong_count(&trace), 2, "the stream keeps it");
    publisher.push(video(66, true, 100)).unwrap();
    assert_eq!(Arc::strong_count(&trace), 1, "the next keyframe takes its place");
    assert_eq!(hub.keyframe("room101").unwrap().made(|_| None), None);
    assert_eq!(hub.keyframe("room101").unwrap().made(never), None, "nor is it tried again in vain");
}

#[test]
fn what_is_made_of_a_keyframe_ends_with_the_stream() {
    let hub = hub();
    let publisher = hub.publish("room101", "s1", 1).unwrap();
    publisher.set_tracks(&tracks()).unwrap();
    publisher.push(video(0, true, 100)).unwrap();
    let trace = Arc::new(());
    hub.keyframe("room101").unwrap().made(traced(&trace)).unwrap();
    drop(publisher);
    assert_eq!(Arc::strong_count(&trace), 2, "it may yet be continued");
    assert_eq!(hub.sweep(Instant::now() + Duration::from_secs(3600)).len(), 1);
    assert_eq!(Arc::strong_count(&trace), 1);
}
