//! The ways into one shard: one queue for whatever the process says, which is never lost, and one for what other shards
//! pass on, which strangers can fill and which may lose.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use rtp::Packets;

use crate::bell::Bell;
use crate::command::Command;
use crate::handle::Full;
use crate::id::StreamId;

/// Joins and ICE restarts that may wait for one shard; further ones are refused. What ends sessions and streams is always
/// taken, and there is no more of it than there are sessions and streams.
const REQUESTS_MAX: usize = 4_096;
/// Joins and ICE restarts after which a sleeping shard is woken: far below what may wait, and the shard looks by itself at
/// least once a second.
const QUIET_MAX: usize = 64;
/// Frames that may wait for one shard, those whose turn has begun included: a second of 20 streams. A shard this far behind
/// must skip, not queue.
const FRAMES_MAX: usize = 2_048;
/// Datagrams and connections of other shards that may wait for one. They are lost beyond it, as on any network.
const FORWARDED_MAX: usize = 1_024;

/// What reached another shard than its own.
#[derive(Debug)]
pub(crate) enum Forwarded {
    Datagram { path: crate::batch::Path, from: SocketAddr, bytes: Vec<u8> },
    Connection { stream: std::net::TcpStream, peer: SocketAddr, bytes: Vec<u8> },
}

/// What waits, by its kind.
#[derive(Debug, Default)]
struct Waiting {
    requests: AtomicUsize,
    frames: AtomicUsize,
}

/// The room of one frame, until its last viewer has it.
#[derive(Debug)]
pub(crate) struct Room(Arc<Waiting>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.frames.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sending end; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    commands: Sender<Command>,
    forwarded: SyncSender<Forwarded>,
    waiting: Arc<Waiting>,
    bell: Bell,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: Receiver<Command>,
    forwarded: Receiver<Forwarded>,
    waiting: Arc<Waiting>,
}

/// Both ends.
pub(crate) fn mailbox(bell: Bell) -> (Mailbox, Inbox) {
    let (commands, commands_in) = channel();
    let (forwarded, forwarded_in) = sync_channel(FORWARDED_MAX);
    let waiting = Arc::<Waiting>::default();
    let inbox = Inbox { commands: commands_in, forwarded: forwarded_in, waiting: Arc::clone(&waiting) };
    (Mailbox { commands, forwarded, waiting, bell }, inbox)
}

impl Mailbox {
    /// For a join or an ICE restart, which may be refused: when too many wait, or when the shard has ended. It wakes the
    /// shard only now and then: the viewer's first check does, and the shard takes commands before what it has received.
    pub(crate) fn request(&self, command: Command) -> Result<(), Full> {
        let waiting = self.waiting.requests.fetch_add(1, Ordering::Relaxed);
        if waiting >= REQUESTS_MAX {
            self.waiting.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        }
        self.commands.send(command).map_err(|_| Full)?;
        if waiting % QUIET_MAX == QUIET_MAX - 1 {
            self.bell.ring();
        }
        Ok(())
    }

    /// For what must arrive. An error means that the shard has ended.
    pub(crate) fn tell(&self, command: Command) -> Result<(), Full> {
        self.commands.send(command).map_err(|_| Full)?;
        self.bell.ring();
        Ok(())
    }

    /// Returns whether there was room for the frame.
    pub(crate) fn frame(&self, stream: StreamId, frame: &Arc<Packets>) -> bool {
        let waiting = self.waiting.frames.fetch_add(1, Ordering::Relaxed);
        let room = Room(Arc::clone(&self.waiting));
        waiting < FRAMES_MAX && self.tell(Command::Frame { stream, frame: Arc::clone(frame), room }).is_ok()
    }

    /// Returns whether there was room for it.
    pub(crate) fn forward(&self, forwarded: Forwarded) -> bool {
        let is_taken = self.forwarded.try_send(forwarded).is_ok();
        self.bell.ring();
        is_taken
    }
}

impl Inbox {
    pub(crate) fn command(&self) -> Option<Command> {
        let command = self.commands.try_recv().ok()?;
        if let Command::Add(_) | Command::Restart { .. } = command {
            self.waiting.requests.fetch_sub(1, Ordering::Relaxed);
        }
        Some(command)
    }

    pub(crate) fn forwarded(&self) -> Option<Forwarded> {
        self.forwarded.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::id::ViewerId;

    fn both() -> (mio::Poll, Mailbox, Inbox) {
        let poll = mio::Poll::new().unwrap();
        let bell = Bell::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (mailbox, inbox) = mailbox(bell);
        (poll, mailbox, inbox)
    }

    #[test]
    fn control_is_taken_however_full_the_other_queues_are() {
        let (_poll, mailbox, inbox) = both();
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        let path = crate::batch::Path::Udp { peer: from, local: None };
        let datagrams = (0..2 * FORWARDED_MAX)
            .filter(|_| mailbox.forward(Forwarded::Datagram { path, from, bytes: vec![0; 8] }));
        assert_eq!(datagrams.count(), FORWARDED_MAX, "strangers can fill this one");
        let viewer = ViewerId { shard: 0, number: 1 };
        let local = crate::id::credentials(0);
        let restart = || Command::Restart { viewer, local: local.clone(), remote: local.clone() };
        let requests = (0..2 * REQUESTS_MAX).filter(|_| mailbox.request(restart()).is_ok());
        assert_eq!(requests.count(), REQUESTS_MAX);
        for _ in 0..3 * REQUESTS_MAX {
            mailbox.tell(Command::Remove { viewer }).unwrap();
        }
        mailbox.tell(Command::CloseStream { stream: StreamId(0) }).unwrap();
        let mut taken = 0;
        while inbox.command().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 4 * REQUESTS_MAX + 1);
        assert!(mailbox.request(restart()).is_ok(), "there is room again");
    }

    #[test]
    fn what_is_said_comes_in_its_order() {
        let (_poll, mailbox, inbox) = both();
        let stream = StreamId(7);
        let frame = Arc::new(
            rtp::opus::Packetizer::default()
                .packetize(&media::AudioFrame {
                    time: media::MediaTime::ZERO,
                    packet: bytes::Bytes::from_static(&[1]),
                    arrival: Instant::now(),
                })
                .unwrap(),
        );
        mailbox.tell(Command::OpenStream { stream, origin: Instant::now() }).unwrap();
        let frames = (0..2 * FRAMES_MAX).filter(|_| mailbox.frame(stream, &frame));
        assert_eq!(frames.count(), FRAMES_MAX);
        mailbox.tell(Command::CloseStream { stream }).unwrap();
        assert!(matches!(inbox.command(), Some(Command::OpenStream { .. })));
        let mut taken: Vec<_> = (0..FRAMES_MAX).filter_map(|_| inbox.command()).collect();
        assert!(taken.iter().all(|command| matches!(command, Command::Frame { .. })));
        assert!(matches!(inbox.command(), Some(Command::CloseStream { .. })));
        assert!(!mailbox.frame(stream, &frame), "a frame that was taken still waits for its viewers");
        taken.pop();
        assert!(mailbox.frame(stream, &frame), "there is room again");
    }
}
