//! The packets of one pass of a shard: written into one arena, sent together.
use std::net::SocketAddr;

use crate::udp::Message;

/// Arena bytes after which a pass must flush: the socket's queue would not take much more at once.
const ARENA_FULL: usize = 1 << 20;
/// Messages after which a pass must flush.
const MESSAGES_FULL: usize = 1024;
/// Datagrams in one segmented message (the kernel's `UDP_MAX_SEGMENTS` was 64 until Linux 6.9).
const SEGMENTS_MAX: usize = 64;
/// Bytes of one segmented message: an IPv4 datagram's length has 16 bits.
const SEGMENTED_BYTES_MAX: usize = 65_000;

/// Where packets of a viewer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Path {
    /// From the media socket to this address.
    Udp(SocketAddr),
    /// Over this connection of the shard.
    Tcp(usize),
}

/// Packets that wait for the end of the pass.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) arena: Vec<u8>,
    messages: Vec<Message>,
    streams: Vec<Framed>,
    /// The last message may grow: same peer, same length so far.
    open: bool,
}

/// One packet for a TCP connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framed {
    pub(crate) connection: usize,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Batch {
    /// Whether the pass should flush before it writes more.
    pub(crate) fn is_full(&self) -> bool {
        self.arena.len() >= ARENA_FULL
            || self.messages.len() >= MESSAGES_FULL
            || self.streams.len() >= MESSAGES_FULL
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.streams.is_empty()
    }

    /// Takes everything in the arena from `start` on as one packet. Packets of one length to one peer in a row become
    /// one segmented message; a shorter one may end it.
    pub(crate) fn commit(&mut self, start: usize, path: Path) {
        let len = self.arena.len().saturating_sub(start);
        let to = match path {
            Path::Udp(to) => to,
            Path::Tcp(connection) => {
                self.open = false;
                self.streams.push(Framed { connection, start, len });
                return;
            }
        };
        if self.open
            && let Some(last) = self.messages.last_mut()
            && last.to == to
            && last.start + last.len == start
            && len <= usize::from(last.segment)
            && last.len / usize::from(last.segment) < SEGMENTS_MAX
            && last.len + len <= SEGMENTED_BYTES_MAX
        {
            last.len += len;
            self.open = len == usize::from(last.segment);
            return;
        }
        let segment = u16::try_from(len).expect("a packet fits a datagram");
        self.messages.push(Message { start, len, segment, to });
        self.open = segment > 0;
    }

    /// Appends `packet` and commits it.
    pub(crate) fn push(&mut self, packet: &[u8], path: Path) {
        let start = self.arena.len();
        self.arena.extend_from_slice(packet);
        self.commit(start, path);
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn streams(&self) -> &[Framed] {
        &self.streams
    }

    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.messages.clear();
        self.streams.clear();
        self.open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(port: u16) -> Path {
        Path::Udp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn shape(batch: &Batch) -> Vec<(usize, u16)> {
        batch.messages().iter().map(|message| (message.len, message.segment)).collect()
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
        for message in batch.messages() {
            assert!(message.len <= SEGMENTED_BYTES_MAX && message.len / 1200 <= SEGMENTS_MAX);
        }
        assert_eq!(batch.messages().iter().map(|message| message.len).sum::<usize>(), 200 * 1200);
    }
}
