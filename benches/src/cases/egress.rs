//! From the hub to sealed packets.
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hub::{Hub, Limits, Subscription, Update};
use media::{MediaTime, Tracks, VideoFrame};
use rtc::bench::{Sealer, Watcher};
use rtp::Packets;
use rtp::h264::Packetizer;

use crate::lesson;

/// Frames of one iteration of the hub, and who gets each.
const FRAMES: usize = 1000;
const SUBSCRIBERS: usize = 100;
/// Packets of one iteration of the cipher, and their bytes before the tag.
const SEALED_PACKETS: usize = 1000;
const PACKET_BYTES: usize = 1200;
const FRAME_TIME: Duration = Duration::from_millis(33);
/// After so many groups of pictures, of a second each, a viewer's link does not matter any more.
const SETTLING_GROUPS: usize = 5;

/// Frames to many subscribers, which take each before the next comes.
pub(crate) fn fanout() -> Box<dyn FnMut() -> usize> {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("class", "session", 1).expect("an empty hub");
    let tracks = Tracks { video: Some(lesson::config()), audio: true };
    publisher.set_tracks(&tracks).expect("the only publisher");
    let subscribe = |_| hub.subscribe("class").expect("a stream");
    let mut subscribers: Vec<Subscription> = (0..SUBSCRIBERS).map(subscribe).collect();
    for subscriber in &mut subscribers {
        take(subscriber);
    }
    let frames = lesson::frames(FRAMES);
    Box::new(move || {
        let mut taken = 0;
        for frame in &frames {
            publisher.push(frame.clone()).expect("the only publisher");
            taken += subscribers.iter_mut().filter_map(take).count();
        }
        taken
    })
}

/// The update that waits, if one does.
fn take(subscriber: &mut Subscription) -> Option<Update> {
    match pin!(subscriber.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(update) => update,
        Poll::Pending => None,
    }
}

/// A group of pictures into payloads.
pub(crate) fn packetise() -> Box<dyn FnMut() -> usize> {
    let group = lesson::group();
    let mut packetizer = Packetizer::default();
    Box::new(move || {
        group.iter().filter_map(|frame| packetizer.packetize(frame)).map(|packets| packets.count()).sum()
    })
}

/// Packets into sealed packets.
pub(crate) fn protect() -> Box<dyn FnMut() -> usize> {
    let mut sealer = Sealer::default();
    let packet = vec![0x80; PACKET_BYTES];
    Box::new(move || sealer.seal(&packet, SEALED_PACKETS))
}

/// Groups of pictures to one viewer: packets, numbering, headers, sealing, batching.
pub(crate) fn watch() -> Box<dyn FnMut() -> usize> {
    let mut watcher = Watcher::default();
    let mut groups = Groups::default();
    watcher.join(groups.now());
    // Until the viewer's link does not matter any more.
    for _ in 0..SETTLING_GROUPS {
        groups.next().for_each(|frame| _ = watcher.watch(frame));
    }
    Box::new(move || groups.next().map(|frame| watcher.watch(frame)).sum())
}

/// The same to a viewer that has just come.
pub(crate) fn join() -> Box<dyn FnMut() -> usize> {
    let mut watcher = Watcher::default();
    let mut groups = Groups::default();
    Box::new(move || {
        watcher.join(groups.now());
        groups.next().map(|frame| watcher.watch(frame)).sum()
    })
}

/// A lesson without end, in packets.
struct Groups {
    group: Vec<VideoFrame>,
    packetizer: Packetizer,
    began: Instant,
    frames: u32,
}

impl Default for Groups {
    fn default() -> Self {
        Self { group: lesson::group(), packetizer: Packetizer::default(), began: Instant::now(), frames: 0 }
    }
}

impl Groups {
    /// When the next frame arrives.
    fn now(&self) -> Instant {
        self.began + FRAME_TIME * self.frames
    }

    fn next(&mut self) -> impl Iterator<Item = Packets> {
        let (began, frames, packetizer) = (self.began, &mut self.frames, &mut self.packetizer);
        self.group.iter().filter_map(move |frame| {
            let since = FRAME_TIME * *frames;
            *frames += 1;
            let micros = i64::try_from(since.as_micros()).expect("a lesson of hours");
            let time = MediaTime::from_micros(micros);
            packetizer.packetize(&VideoFrame { time, arrival: began + since, ..frame.clone() })
        })
    }
}
