//! What wakes a shard. A system call is spent only on one that sleeps: while it is awake, it looks at its queues before it
//! sleeps anyway.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mio::Waker;

/// Rung by whoever has put something into a queue of the shard; clones are the same bell.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waker: Waker,
    /// Goes up with every ring.
    rings: AtomicU64,
    is_asleep: AtomicBool,
}

/// The rings up to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard(u64);

impl Bell {
    /// A bell for whoever polls what `waker` belongs to.
    pub(crate) fn new(waker: Waker) -> Self {
        Self(Arc::new(Inner { waker, rings: AtomicU64::new(0), is_asleep: AtomicBool::new(false) }))
    }

    /// Something is in a queue. Comes after it was put there.
    pub(crate) fn ring(&self) {
        // The shard says that it sleeps before it looks at the count, and here the count goes up before the look at
        // whether it sleeps: in the one order of all four, one of the two sees the other.
        self.0.rings.fetch_add(1, Ordering::SeqCst);
        if self.0.is_asleep.swap(false, Ordering::SeqCst) {
            let _ = self.0.waker.wake();
        }
    }

    /// Comes before the queues are emptied.
    pub(crate) fn listen(&self) -> Heard {
        Heard(self.0.rings.load(Ordering::SeqCst))
    }

    /// Returns whether the shard may sleep: nobody has rung since it listened. It is woken by a ring from now on.
    pub(crate) fn fall_asleep(&self, heard: Heard) -> bool {
        self.0.is_asleep.store(true, Ordering::SeqCst);
        let may_sleep = self.listen() == heard;
        if !may_sleep {
            self.wake_up();
        }
        may_sleep
    }

    /// The shard is awake, whatever woke it.
    pub(crate) fn wake_up(&self) {
        self.0.is_asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    fn bell() -> (Poll, Bell) {
        let poll = Poll::new().unwrap();
        let bell = Bell::new(Waker::new(poll.registry(), Token(0)).unwrap());
        (poll, bell)
    }

    fn wakes(poll: &mut Poll) -> usize {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().count()
    }

    #[test]
    fn a_shard_that_is_awake_is_not_woken_and_does_not_fall_asleep_over_a_ring() {
        let (mut poll, bell) = bell();
        let heard = bell.listen();
        bell.ring();
        assert_eq!(wakes(&mut poll), 0);
        assert!(!bell.fall_asleep(heard));
        bell.ring();
        assert_eq!(wakes(&mut poll), 0, "it did not sleep");
        assert!(bell.fall_asleep(bell.listen()));
        bell.ring();
        assert_eq!(wakes(&mut poll), 1);
    }

    #[test]
    fn no_ring_is_missed_by_a_shard_that_falls_asleep_meanwhile() {
        const RINGS: usize = 20_000;
        let (mut poll, bell) = bell();
        let (sender, receiver) = channel();
        let ringing = bell.clone();
        let thread = std::thread::spawn(move || {
            for number in 0..RINGS {
                sender.send(number).unwrap();
                ringing.ring();
            }
            sender
        });
        let (mut taken, mut events) = (0, Events::with_capacity(4));
        while taken < RINGS {
            let heard = bell.listen();
            taken += receiver.try_iter().count();
            if taken < RINGS && bell.fall_asleep(heard) {
                poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
                assert!(!events.is_empty(), "asleep with {taken} taken and a ring missed");
            }
            bell.wake_up();
        }
        drop(thread.join().unwrap());
    }
}
