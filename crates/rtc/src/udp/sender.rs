//! How a batch gets through a socket: message by message as far as the kernel takes them. The system call is an argument.
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Message;
use crate::batch::SEGMENTS_MAX;

/// Peers that are remembered as taking no segmented messages. Each costs a failed system call when it is forgotten, so a
/// flood of them costs itself time and nobody else segmentation.
const UNSEGMENTED_MAX: usize = 1024;
/// After this time segmentation is tried again: routes change.
const UNSEGMENTED_TIME: Duration = Duration::from_secs(600);

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Messages at the front that are done with, sent or refused.
    pub(crate) done: usize,
    /// Messages that the kernel took.
    pub(crate) messages: u64,
    /// System calls.
    pub(crate) calls: u64,
    /// Messages that the kernel refuses for good: their peer is unreachable, or a filter is in the way.
    pub(crate) refused: u64,
    /// Peers that get datagrams one by one from now on, because the kernel refused segmentation towards them.
    pub(crate) unsegmented: u64,
    /// The socket became full in this call.
    pub(crate) blocked: u64,
}

/// What is known of a socket's willingness.
#[derive(Debug)]
pub(super) struct Sender {
    /// The kernel knows `UDP_SEGMENT`.
    gso: bool,
    /// Until when a peer gets datagrams one by one.
    unsegmented: HashMap<IpAddr, Instant>,
    is_blocked: bool,
}

impl Sender {
    pub(super) fn new(gso: bool) -> Self {
        Self { gso, unsegmented: HashMap::new(), is_blocked: false }
    }

    /// The kernel's queue was full, and nothing has been heard of room since.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    pub(super) fn on_writable(&mut self) {
        self.is_blocked = false;
    }

    /// Hands `messages` to `write` until they are done or the socket is full. `write` makes one system call and returns
    /// how many it took. A message that the kernel took a part of is cut down to the rest.
    pub(super) fn send(
        &mut self,
        messages: &mut [Message],
        clock: impl Fn() -> Instant,
        mut write: impl FnMut(&[Message]) -> io::Result<usize>,
    ) -> Sent {
        let mut sent = Sent::default();
        while !self.is_blocked
            && let Some(rest) = messages.get_mut(sent.done..).filter(|rest| !rest.is_empty())
        {
            sent.calls += 1;
            match self.send_some(rest, &clock, &mut write) {
                Ok(count) => {
                    sent.done += count;
                    sent.messages += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    sent.blocked += 1;
                }
                Err(error) => {
                    let first = rest.first().copied().filter(Message::is_segmented);
                    match first.filter(|first| self.on_refused_segments(first.to.ip(), &error, &clock)) {
                        Some(_) => sent.unsegmented += 1,
                        // Unreachable or refused by a filter: this peer's matter, the others go on.
                        None => {
                            sent.done += 1;
                            sent.refused += 1;
                        }
                    }
                }
            }
        }
        sent
    }

    /// One system call, or for a peer without segmentation one for each of its messages.
    fn send_some(
        &self,
        rest: &mut [Message],
        clock: &impl Fn() -> Instant,
        write: &mut impl FnMut(&[Message]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.gso && self.unsegmented.is_empty() {
            return write(rest);
        }
        let now = clock();
        let is_whole = |message: &Message| !message.is_segmented() || self.may_segment(message.to.ip(), now);
        let run = rest.iter().take_while(|message| is_whole(message)).count();
        if run > 0 {
            return write(rest.get(..run).unwrap_or(&[]));
        }
        let Some(first) = rest.first_mut() else { return Ok(0) };
        let mut parts = [*first; SEGMENTS_MAX];
        let mut count = 0;
        for (place, part) in parts.iter_mut().zip(first.segments()) {
            *place = part;
            count += 1;
        }
        let mut parts = parts.get(..count).unwrap_or(&[]);
        while let Some(next) = parts.first() {
            // What the kernel has taken is not sent again when it is full afterwards.
            first.len -= next.start - first.start;
            first.start = next.start;
            let done = write(parts)?;
            parts = parts.get(done..).unwrap_or(&[]);
        }
        Ok(1)
    }

    fn may_segment(&self, peer: IpAddr, now: Instant) -> bool {
        self.gso && self.unsegmented.get(&peer).is_none_or(|until| *until <= now)
    }

    /// Whether `error` is one of segmentation, and new for this peer. EINVAL: segments longer than the route takes, before
    /// Linux 6.14; EMSGSIZE: since. EIO: no offload on this route, as with IPsec.
    fn on_refused_segments(&mut self, peer: IpAddr, error: &io::Error, clock: &impl Fn() -> Instant) -> bool {
        let is_known = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE));
        let now = clock();
        if !is_known || !self.may_segment(peer, now) {
            return false;
        }
        tracing::debug!(%error, "the kernel refuses UDP segmentation towards a peer");
        if self.unsegmented.len() >= UNSEGMENTED_MAX {
            self.unsegmented.retain(|_, until| *until > now);
        }
        if self.unsegmented.len() >= UNSEGMENTED_MAX
            && let Some(oldest) = self.unsegmented.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip)
        {
            self.unsegmented.remove(&oldest);
        }
        self.unsegmented.insert(peer, now + UNSEGMENTED_TIME);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::batch::Class;

    fn message(host: u8, len: usize, segment: u16) -> Message {
        Message {
            start: 0,
            len,
            segment,
            to: SocketAddr::from(([192, 0, 2, host], 9)),
            from: None,
            class: Class::Video,
        }
    }

    fn refusal(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn a_full_socket_keeps_the_tail_and_is_not_asked_again_before_there_is_room() {
        let mut sender = Sender::new(true);
        let mut messages: Vec<Message> = (0..10).map(|_| message(1, 100, 100)).collect();
        let mut room = 4;
        let mut write = |rest: &[Message]| {
            let taken = rest.len().min(room);
            room -= taken;
            if taken == 0 { Err(refusal(libc::EAGAIN)) } else { Ok(taken) }
        };
        let sent = sender.send(&mut messages, Instant::now, &mut write);
        assert_eq!((sent.done, sent.messages, sent.refused, sent.blocked), (4, 4, 0, 1));
        assert!(sender.is_blocked());
        let again = sender.send(&mut messages[4..], Instant::now, &mut write);
        assert_eq!((again.done, again.calls), (0, 0));
        sender.on_writable();
        room = 6;
        let mut write = |rest: &[Message]| Ok(rest.len().min(room));
        assert_eq!(sender.send(&mut messages[4..], Instant::now, &mut write).done, 6);
    }

    #[test]
    fn a_peer_that_segmentation_fails_for_gets_datagrams_and_the_others_keep_segments() {
        for code in [libc::EINVAL, libc::EIO, libc::EMSGSIZE] {
            let mut sender = Sender::new(true);
            let mut datagrams = Vec::new();
            let mut write = |rest: &[Message]| {
                let first = rest[0];
                if first.is_segmented() && first.to.ip() == IpAddr::from([192, 0, 2, 1]) {
                    return Err(refusal(code));
                }
                datagrams.push((first.to.ip(), first.len));
                Ok(1)
            };
            let mut messages =
                [message(2, 30, 10), message(1, 25, 10), message(2, 30, 10), message(1, 10, 10)];
            let sent = sender.send(&mut messages, Instant::now, &mut write);
            assert_eq!((sent.done, sent.refused, sent.unsegmented), (4, 0, 1), "{code}");
            let (one, two): (Vec<_>, Vec<_>) =
                datagrams.into_iter().partition(|(ip, _)| *ip == IpAddr::from([192, 0, 2, 1]));
            assert_eq!(one.iter().map(|(_, len)| *len).collect::<Vec<_>>(), [10, 10, 5, 10]);
            assert_eq!(two.iter().map(|(_, len)| *len).collect::<Vec<_>>(), [30, 30]);
        }
    }

    #[test]
    fn segmentation_is_tried_again_after_a_while_and_refused_peers_are_bounded() {
        let now = Instant::now();
        let mut sender = Sender::new(true);
        for number in 0..=u16::MAX {
            let peer = IpAddr::from([10, 0, (number >> 8) as u8, (number & 255) as u8]);
            assert!(sender.on_refused_segments(peer, &refusal(libc::EINVAL), &|| now));
        }
        assert_eq!(sender.unsegmented.len(), UNSEGMENTED_MAX);
        let last = IpAddr::from([10, 0, 255, 255]);
        assert!(!sender.may_segment(last, now));
        assert!(sender.may_segment(last, now + UNSEGMENTED_TIME));
    }

    #[test]
    fn what_was_sent_of_a_message_in_parts_is_not_sent_again_after_a_full_socket() {
        let mut sender = Sender::new(false);
        let mut messages = [message(1, 95, 10)];
        let mut taken = 0;
        let sent = sender.send(&mut messages, Instant::now, |rest| {
            taken += 1;
            if taken > 2 { Err(refusal(libc::EAGAIN)) } else { Ok(rest.len().min(3)) }
        });
        assert_eq!((sent.done, messages[0].start, messages[0].len), (0, 60, 35));
    }

    #[test]
    fn an_unreachable_peer_costs_the_others_nothing() {
        let mut sender = Sender::new(true);
        let mut messages = [message(1, 10, 10), message(2, 30, 10), message(3, 10, 10)];
        let sent = sender.send(&mut messages, Instant::now, |rest| {
            if rest[0].to.ip() == IpAddr::from([192, 0, 2, 2]) {
                Err(refusal(libc::EHOSTUNREACH))
            } else {
                Ok(1)
            }
        });
        assert_eq!((sent.done, sent.messages, sent.refused), (3, 2, 1));
    }
}
