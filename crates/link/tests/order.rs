//! What the machine at the node that pulls makes of groups that come as they like.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::Place;
use link::{GroupHeader, Received, Receiving};
use media::{AudioFrame, Frame, MediaTime, Track, VideoConfig, VideoFrame};

const PATIENCE: Duration = Duration::from_millis(200);

struct Edge {
    receiving: Receiving,
    start: Instant,
}

/// What came out: the group and index of a frame, or the number of a QUIC stream that is of no use.
#[derive(Debug, PartialEq, Eq)]
enum Out {
    Frame(u64, u32),
    Stop(u64),
}

use Out::{Frame as F, Stop};

impl Edge {
    fn new() -> Self {
        let mut receiving = Receiving::new(PATIENCE);
        let start = Instant::now();
        receiving.on_epoch(start, 1);
        Self { receiving, start }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// A QUIC stream begins, whose number is that of its group.
    fn group(&mut self, ms: u64, track: Track, group: u64, after: Option<u64>) {
        let header =
            GroupHeader { subscription: 0, track, first: Place { epoch: 1, group, index: 0 }, after };
        self.receiving.on_group(self.at(ms), group, &header);
    }

    fn frame(&mut self, ms: u64, group: u64, index: u32) {
        let frame = if index == 0 { picture(true, false, 100) } else { picture(false, false, 100) };
        self.receiving.on_frame(self.at(ms), group, index, frame);
    }

    fn out(&mut self) -> Vec<Out> {
        std::iter::from_fn(|| self.receiving.poll())
            .map(|received| match received {
                Received::Frame(place, _) => F(place.group, place.index),
                Received::Stop(stream) => Stop(stream),
            })
            .collect()
    }
}

fn picture(keyframe: bool, recovery_point: bool, len: usize) -> Frame {
    let config =
        VideoConfig { sps: Bytes::new(), pps: Vec::new(), profile_level_id: [0; 3], width: 0, height: 0 };
    Frame::Video(VideoFrame {
        time: MediaTime::ZERO,
        keyframe,
        recovery_point,
        config: Arc::new(config),
        nals: Arc::from([Bytes::from(vec![0; len])]),
        arrival: Instant::now(),
    })
}

fn packet() -> Frame {
    Frame::Audio(AudioFrame {
        time: MediaTime::ZERO,
        packet: Bytes::from_static(&[0; 100]),
        arrival: Instant::now(),
    })
}

#[test]
fn a_group_waits_for_the_end_of_the_one_before() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 0, None);
    edge.frame(0, 0, 0);
    edge.group(1, Track::Video, 1, Some(0));
    edge.frame(1, 1, 0);
    assert_eq!(edge.out(), [F(0, 0)]);
    edge.frame(2, 0, 1);
    assert_eq!(edge.out(), [F(0, 1)]);
    edge.receiving.on_end(edge.at(3), 0);
    assert_eq!(edge.out(), [F(1, 0)]);
    edge.frame(4, 1, 1);
    assert_eq!(edge.out(), [F(1, 1)]);
}

#[test]
fn a_group_waits_for_one_of_which_nothing_has_come_but_not_for_ever() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 0, None);
    edge.frame(0, 0, 0);
    edge.receiving.on_end(edge.at(0), 0);
    edge.group(10, Track::Video, 2, Some(1));
    edge.frame(10, 2, 0);
    assert_eq!(edge.out(), [F(0, 0)]);
    assert_eq!(edge.receiving.deadline(), Some(edge.at(10) + PATIENCE));
    edge.receiving.on_timeout(edge.at(209));
    assert_eq!(edge.out(), []);
    edge.receiving.on_timeout(edge.at(210));
    assert_eq!(edge.out(), [F(2, 0)]);
    edge.group(220, Track::Video, 1, Some(0));
    assert_eq!(edge.out(), [Stop(1)], "nobody waits for it any more");
}

#[test]
fn a_group_that_comes_to_no_end_is_given_up_for_the_next() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 0, None);
    edge.frame(0, 0, 0);
    edge.group(100, Track::Video, 1, Some(0));
    edge.frame(100, 1, 0);
    edge.frame(110, 1, 1);
    assert_eq!(edge.out(), [F(0, 0)]);
    edge.receiving.on_timeout(edge.at(300));
    assert_eq!(edge.out(), [Stop(0), F(1, 0), F(1, 1)]);
    edge.frame(301, 0, 1);
    assert_eq!(edge.out(), [], "what is late stays out");
}

#[test]
fn who_begins_gets_a_keyframe_first() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 5, None);
    edge.receiving.on_frame(edge.at(0), 5, 0, picture(false, true, 100));
    edge.receiving.on_frame(edge.at(1), 5, 1, picture(false, false, 100));
    edge.receiving.on_end(edge.at(2), 5);
    assert_eq!(edge.out(), [], "nothing can be shown of it");
    edge.group(3, Track::Video, 6, Some(5));
    edge.frame(3, 6, 0);
    assert_eq!(edge.out(), [F(6, 0)]);
    edge.receiving.on_end(edge.at(4), 6);
    edge.group(5, Track::Video, 7, Some(6));
    edge.receiving.on_frame(edge.at(5), 7, 0, picture(false, true, 100));
    assert_eq!(edge.out(), [F(7, 0)], "with a keyframe before it, it can");
}

#[test]
fn pictures_that_need_a_missing_one_are_left_out_and_sound_is_not() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 0, None);
    edge.frame(0, 0, 0);
    edge.frame(0, 0, 2);
    edge.frame(0, 0, 3);
    edge.receiving.on_end(edge.at(1), 0);
    edge.group(1, Track::Video, 1, Some(0));
    edge.frame(1, 1, 0);
    assert_eq!(edge.out(), [F(0, 0), F(1, 0)]);
    edge.group(2, Track::Audio, 100, None);
    edge.receiving.on_frame(edge.at(2), 100, 0, packet());
    edge.receiving.on_frame(edge.at(2), 100, 2, packet());
    assert_eq!(edge.out(), [F(100, 0), F(100, 2)]);
}

#[test]
fn tracks_do_not_wait_for_each_other() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 0, None);
    edge.group(0, Track::Video, 1, Some(0));
    edge.frame(0, 1, 0);
    edge.group(1, Track::Audio, 100, None);
    edge.receiving.on_frame(edge.at(1), 100, 0, packet());
    assert_eq!(edge.out(), [F(100, 0)]);
}

#[test]
fn frames_of_a_publisher_who_was_not_announced_wait_for_that_and_those_of_the_one_before_are_dropped() {
    let mut edge = Edge::new();
    edge.group(0, Track::Video, 0, None);
    edge.frame(0, 0, 0);
    let first = Place { epoch: 2, group: 0, index: 0 };
    let header = GroupHeader { subscription: 0, track: Track::Video, first, after: None };
    edge.receiving.on_group(edge.at(1), 50, &header);
    edge.receiving.on_frame(edge.at(1), 50, 0, picture(true, false, 100));
    assert_eq!(edge.out(), [F(0, 0)]);
    edge.receiving.on_epoch(edge.at(2), 2);
    assert_eq!(edge.out(), [Stop(0), F(0, 0)]);
    edge.frame(3, 0, 1);
    assert_eq!(edge.out(), []);
}

#[test]
fn what_waits_is_bounded() {
    let mut edge = Edge::new();
    // Of the first nothing comes, and no time passes.
    edge.group(0, Track::Video, 0, None);
    for group in 1..200 {
        edge.group(0, Track::Video, group, Some(group - 1));
        edge.receiving.on_frame(edge.at(0), group, 0, picture(true, false, 1 << 20));
        edge.receiving.on_end(edge.at(0), group);
    }
    let out = edge.out();
    assert_eq!(out.first(), Some(&Stop(0)));
    assert!(out.len() >= 200 - 32, "{} of 200", out.len());
    // Of a publisher who is never announced nothing is kept beyond that.
    let mut kept = 0;
    for group in 0..200 {
        let header = GroupHeader {
            subscription: 0,
            track: Track::Video,
            first: Place { epoch: 9, group, index: 0 },
            after: None,
        };
        edge.receiving.on_group(edge.at(0), 1000 + group, &header);
        edge.receiving.on_frame(edge.at(0), 1000 + group, 0, picture(true, false, 1 << 20));
        kept += usize::from(!edge.out().iter().any(|out| matches!(out, Stop(_))));
    }
    assert!(kept <= 40, "{kept} groups of nobody are kept");
}
