//! From the hub to sealed packets.
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hub::{Hub, Limits, Subscription, Update};
use media::Tracks;
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

/// Frames to many subscribers, which take each before the next comes.
pub(crate) fn fanout() -> Box<dyn FnMut() -> usize> {
    let hub = Hub::new(Limits::default());
    let publisher = hub.publish("class", "session").expect("an empty hub");
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

/// A group of pictures to one viewer: numbering, headers, sealing, batching.
pub(crate) fn watch() -> Box<dyn FnMut() -> usize> {
    let mut packetizer = Packetizer::default();
    let group: Vec<Arc<Packets>> =
        lesson::group().iter().filter_map(|frame| packetizer.packetize(frame)).map(Arc::new).collect();
    let mut watcher = Watcher::default();
    Box::new(move || watcher.watch(&group))
}
