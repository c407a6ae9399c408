//! The packets of one pass of a shard: written into one arena, sent together. What a full socket would not take stays for
//! the next pass.
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::udp::Message;

/// Arena bytes after which a pass must flush: the socket's queue would not take much more at once.
const ARENA_FULL: usize = 1 << 20;
/// Messages after which a pass must flush.
const MESSAGES_FULL: usize = 1024;
/// Datagrams in one segmented message (the kernel's `UDP_MAX_SEGMENTS` was 64 until Linux 6.9).
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Bytes of one segmented message: an IPv4 datagram's length has 16 bits.
const SEGMENTED_BYTES_MAX: usize = 65_000;
/// Bytes that may wait for a full socket, with [`MESSAGE_BYTES`] for each message: two arenas, which take a link of
/// 1 Gbit/s 17 ms. More would be late anyway.
const CARRY_MAX: usize = 2 << 20;
/// When that is exceeded, so much is left: one purge for every arena that is written.
const CARRY_KEPT: usize = CARRY_MAX / 2;
/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = size_of::<Message>();

/// Where packets of a viewer go, and come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Path {
    /// Between the media socket and this address.
    Udp {
        /// The viewer's address.
        peer: SocketAddr,
        /// Ours: answers leave from the address that was asked. None is for the kernel to choose.
        local: Option<IpAddr>,
    },
    /// Over this connection of the shard.
    Tcp(usize),
}

/// What a packet carries, the most dispensable last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// STUN, DTLS and RTCP.
    Control,
    Audio,
    Video,
}

/// Packets that wait for the end of the pass.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) arena: Vec<u8>,
    messages: Vec<Message>,
    /// Messages at the front that are done with.
    done: usize,
    /// What the others cost: bytes, and [`MESSAGE_BYTES`] for each.
    waiting: usize,
    streams: Vec<Framed>,
    /// The last message may grow: same peer, same length so far.
    open: bool,
    /// What was left over from before: only what is written since makes the batch full.
    carried: Carried,
}

#[derive(Debug, Default)]
struct Carried {
    bytes: usize,
    messages: usize,
}

/// One packet for a TCP connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framed {
    pub(crate) connection: usize,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) class: Class,
}

impl Batch {
    /// Whether the pass should flush before it writes more.
    pub(crate) fn is_full(&self) -> bool {
        self.arena.len() - self.carried.bytes >= ARENA_FULL
            || self.messages.len() - self.carried.messages >= MESSAGES_FULL
            || self.streams.len() >= MESSAGES_FULL
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.streams.is_empty()
    }

    /// Takes everything in the arena from `start` on as one packet. Packets of one length and class to one peer in a row
    /// become one segmented message; a shorter one may end it.
    pub(crate) fn commit(&mut self, start: usize, path: Path, class: Class) {
        let len = self.arena.len().saturating_sub(start);
        let (to, from) = match path {
            Path::Udp { peer, local } => (peer, local),
            Path::Tcp(connection) => {
                self.open = false;
                self.streams.push(Framed { connection, start, len, class });
                return;
            }
        };
        if self.open
            && let Some(last) = self.messages.last_mut()
            && last.to == to
            && last.start + last.len == start
            && len <= usize::from(last.segment)
            && last.class == class
            && last.from == from
            && last.len / usize::from(last.segment) < SEGMENTS_MAX
            && last.len + len <= SEGMENTED_BYTES_MAX
        {
            last.len += len;
            self.waiting += len;
            self.open = len == usize::from(last.segment);
            return;
        }
        let segment = u16::try_from(len).expect("a packet fits a datagram");
        self.messages.push(Message { start, len, segment, to, from, class });
        self.waiting += len + MESSAGE_BYTES;
        self.open = segment > 0;
    }

    /// Appends a packet of STUN or DTLS and commits it.
    pub(crate) fn push(&mut self, packet: &[u8], path: Path) {
        let start = self.arena.len();
        self.arena.extend_from_slice(packet);
        self.commit(start, path, Class::Control);
    }

    /// The arena, and the messages that have yet to be sent.
    pub(crate) fn unsent(&mut self) -> (&[u8], &mut [Message]) {
        (&self.arena, self.messages.get_mut(self.done..).unwrap_or(&mut []))
    }

    /// The first `count` of [`Batch::unsent`] are done with.
    pub(crate) fn drop_front(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.done = (self.done + count).min(self.messages.len());
        self.waiting = if self.done == self.messages.len() { 0 } else { cost(self.left()) };
        self.open = false;
    }

    pub(crate) fn streams(&self) -> &[Framed] {
        &self.streams
    }

    /// Ends a flush: keeps what the socket would not take for the next one. Returns how many packets had to be dropped
    /// because too much waits.
    pub(crate) fn carry(&mut self) -> u64 {
        self.streams.clear();
        self.open = false;
        if self.done == self.messages.len() {
            self.clear();
            return 0;
        }
        let dropped = if self.waiting > CARRY_MAX { self.shed() } else { 0 };
        // What is gone is cut off only when it is most of the arena, so that each byte is moved a few times at most.
        if self.arena.len() > 2 * CARRY_MAX || self.done > self.messages.len() / 2 {
            self.compact();
        }
        self.carried = Carried { bytes: self.arena.len(), messages: self.messages.len() };
        dropped
    }

    /// Drops what can best be spared: video of the viewers that have most of it waiting, then the oldest sound, then the
    /// oldest of the rest. Returns how many packets.
    fn shed(&mut self) -> u64 {
        self.messages.drain(..self.done);
        self.done = 0;
        let before: u64 = self.messages.iter().map(Message::packets).sum();
        let mut video: HashMap<SocketAddr, usize> = HashMap::new();
        for message in self.messages.iter().filter(|message| message.class == Class::Video) {
            *video.entry(message.to).or_default() += message.cost();
        }
        let mut video: Vec<_> = video.into_iter().collect();
        video.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let mut left = cost(&self.messages);
        let mut victims = HashSet::new();
        for (peer, bytes) in video {
            if left <= CARRY_KEPT {
                break;
            }
            left -= bytes;
            victims.insert(peer);
        }
        self.messages.retain(|message| message.class != Class::Video || !victims.contains(&message.to));
        for class in [Class::Audio, Class::Control] {
            let is_enough = left <= CARRY_MAX;
            self.messages.retain(|message| {
                let is_spared = message.class != class || is_enough || left <= CARRY_KEPT;
                left -= if is_spared { 0 } else { message.cost() };
                is_spared
            });
        }
        self.waiting = left;
        before - self.messages.iter().map(Message::packets).sum::<u64>()
    }

    /// Moves what has yet to be sent to the front.
    fn compact(&mut self) {
        self.messages.drain(..self.done);
        self.done = 0;
        let mut end = 0;
        for message in &mut self.messages {
            self.arena.copy_within(message.start..message.start + message.len, end);
            message.start = end;
            end += message.len;
        }
        self.arena.truncate(end);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.messages.clear();
        self.streams.clear();
        self.done = 0;
        self.waiting = 0;
        self.open = false;
        self.carried = Carried::default();
    }

    fn left(&self) -> &[Message] {
        self.messages.get(self.done..).unwrap_or(&[])
    }
}

fn cost(messages: &[Message]) -> usize {
    messages.iter().map(Message::cost).sum()
}

impl Message {
    pub(crate) fn is_segmented(&self) -> bool {
        self.len > usize::from(self.segment)
    }

    pub(crate) fn segments(self) -> impl Iterator<Item = Self> {
        let step = usize::from(self.segment).max(1);
        (0..self.len).step_by(step).map(move |offset| Self {
            start: self.start + offset,
            len: step.min(self.len - offset),
            ..self
        })
    }

    fn packets(&self) -> u64 {
        self.len.div_ceil(usize::from(self.segment).max(1)) as u64
    }

    fn cost(&self) -> usize {
        self.len + MESSAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(port: u16) -> Path {
        Path::Udp { peer: SocketAddr::from(([127, 0, 0, 1], port)), local: None }
    }

    fn write(batch: &mut Batch, len: usize, path: Path, class: Class) {
        let start = batch.arena.len();
        batch.arena.resize(start + len, u8::try_from(start % 251).unwrap());
        batch.commit(start, path, class);
    }

    fn shape(batch: &Batch) -> Vec<(usize, u16)> {
        batch.left().iter().map(|message| (message.len, message.segment)).collect()
    }

    #[test]
    fn equal_packets_to_one_peer_share_a_message_and_a_shorter_one_ends_it() {
        let mut batch = Batch::default();
        for len in [100, 100, 40, 100, 120, 120] {
            batch.push(&vec![0; len], udp(1));
        }
        assert_eq!(shape(&batch), [(240, 100), (100, 100), (240, 120)]);
    }

    #[test]
    fn another_peer_begins_another_message() {
        let mut batch = Batch::default();
        for port in [1, 1, 2, 1] {
            batch.push(&[0; 10], udp(port));
        }
        assert_eq!(shape(&batch), [(20, 10), (10, 10), (10, 10)]);
    }

    #[test]
    fn a_segmented_message_stays_within_what_the_kernel_takes() {
        let mut batch = Batch::default();
        for _ in 0..200 {
            batch.push(&[0; 1200], udp(1));
        }
        for message in batch.left() {
            assert!(message.len <= SEGMENTED_BYTES_MAX && message.len / 1200 <= SEGMENTS_MAX);
        }
        assert_eq!(batch.left().iter().map(|message| message.len).sum::<usize>(), 200 * 1200);
    }

    #[test]
    fn packets_of_another_class_or_from_another_address_of_ours_begin_another_message() {
        let mut batch = Batch::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for (local, class) in
            [(None, Class::Video), (None, Class::Audio), (Some([127, 0, 0, 2].into()), Class::Audio)]
        {
            write(&mut batch, 10, Path::Udp { peer, local }, class);
            write(&mut batch, 10, Path::Udp { peer, local }, class);
        }
        assert_eq!(shape(&batch), [(20, 10), (20, 10), (20, 10)]);
    }

    #[test]
    fn what_a_full_socket_would_not_take_is_sent_first_by_the_next_flush() {
        let mut batch = Batch::default();
        for port in 1..=10 {
            write(&mut batch, 100 + usize::from(port), udp(port), Class::Video);
        }
        let expected: Vec<Vec<u8>> = bytes_of(&mut batch);
        for taken in [3, 5, 1] {
            batch.drop_front(taken);
            assert_eq!(batch.carry(), 0);
            let left = bytes_of(&mut batch);
            assert_eq!(left, expected[10 - left.len()..]);
        }
        write(&mut batch, 7, udp(11), Class::Control);
        assert_eq!(shape(&batch), [(110, 110), (7, 7)]);
        batch.drop_front(2);
        assert_eq!(batch.carry(), 0);
        assert!(batch.is_empty() && batch.arena.is_empty());
    }

    fn bytes_of(batch: &mut Batch) -> Vec<Vec<u8>> {
        let (arena, messages) = batch.unsent();
        messages.iter().map(|message| arena[message.start..message.start + message.len].to_vec()).collect()
    }

    #[test]
    fn of_too_much_that_waits_the_largest_video_goes_and_sound_and_control_stay() {
        let mut batch = Batch::default();
        let mut dropped = 0;
        for round in 0..300 {
            // Viewer 1 has ten times the video of the others.
            for port in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3] {
                write(&mut batch, 1200, udp(port), Class::Video);
            }
            write(&mut batch, 200, udp(2), Class::Audio);
            write(&mut batch, 100, udp(3), Class::Control);
            dropped += batch.carry();
            assert!(batch.waiting <= CARRY_MAX && cost(batch.left()) == batch.waiting, "{}", batch.waiting);
            assert!(batch.arena.len() <= 4 * CARRY_MAX, "{}", batch.arena.len());
            let count = |class: Class| batch.left().iter().filter(|message| message.class == class).count();
            assert_eq!((count(Class::Audio), count(Class::Control)), (round + 1, round + 1));
        }
        let left: u64 = batch.left().iter().map(Message::packets).sum();
        assert_eq!(dropped + left, 300 * 14, "every packet is counted");
        let has = |port: u16| {
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            let of_peer = batch.left().iter().filter(|message| message.to == to);
            of_peer.filter(|message| message.class == Class::Video).map(Message::packets).sum::<u64>()
        };
        assert!(dropped > 0);
        assert_eq!((has(2), has(3)), (300, 300), "who has little loses nothing");
    }

    #[test]
    fn control_alone_is_bounded_too_when_nothing_can_be_sent() {
        let mut batch = Batch::default();
        let mut dropped = 0;
        for port in 0..u16::MAX {
            write(&mut batch, 100, udp(port), Class::Control);
            dropped += batch.carry();
            assert!(batch.waiting <= CARRY_MAX);
        }
        assert!(dropped > 0);
    }
}
