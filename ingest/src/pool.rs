//! Threads that transcode audio: as many as there are cores, for any number of publishers.
//!
//! A publisher has a lane. A lane is with one thread at a time, so its frames stay in order, and goes back to the end of
//! the queue after a few of them, so that nobody waits for a publisher who sends faster than time.
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Frames of one lane that may wait: a second and a half of AAC, up to 16 s of a codec of old in large messages. A machine that is this far behind drops the oldest.
const WAITING_MAX: usize = 64;
/// Frames of one lane that are worked off before the next lane has its turn: 100 ms of AAC, a second of others at most; some milliseconds of work.
const TURN_FRAMES: usize = 4;

/// What one publisher's frames are worked off by.
pub trait Work: Send {
    /// What waits in its lane.
    type Frame: Send;
    /// Works off one frame. After `Break` there are no more.
    fn on_frame(&mut self, frame: Self::Frame) -> ControlFlow<()>;
    /// `on_frame` has panicked. There are no more frames.
    fn on_panic(&mut self);
}

/// The threads. They end, and are awaited, when the pool is dropped; what waits then is dropped with it.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Where new lanes come from; clones share the pool.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ready: Mutex<Ready>,
    wakeup: Condvar,
}

/// Lanes with frames that no thread works off. A lane is here once at most, so there are as many as publishers.
#[derive(Default)]
struct Ready {
    lanes: VecDeque<Arc<dyn Turn>>,
    is_closed: bool,
}

/// The frames of one publisher. Once it is dropped, what waits is worked off, and then its work is dropped.
pub struct Lane<W: Work> {
    shared: Arc<Shared>,
    track: Arc<Track<W>>,
}

struct Track<W: Work> {
    inbox: Mutex<Inbox<W::Frame>>,
    /// Held by the thread whose turn it is, and by nobody else.
    work: Mutex<W>,
}

struct Inbox<F> {
    frames: VecDeque<F>,
    /// It is among the ready or with a thread.
    is_scheduled: bool,
    is_closed: bool,
}

/// A lane as the threads see it.
trait Turn: Send + Sync {
    /// Works off some frames; true when more wait.
    fn take_turn(&self) -> bool;
}

impl Pool {
    /// Starts a thread for each core.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let mut pool = Self { shared: Arc::default(), threads: Vec::with_capacity(count) };
        for index in 0..count {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("audio-{index}"));
            pool.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(pool)
    }

    /// For those who open lanes.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut ready = lock(&self.shared.ready);
            ready.is_closed = true;
            ready.lanes.clear();
        }
        self.shared.wakeup.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// Opens a lane for one publisher.
    pub fn lane<W: Work>(&self, work: W) -> Lane<W> {
        let inbox = Inbox { frames: VecDeque::new(), is_scheduled: false, is_closed: false };
        let track = Track { inbox: Mutex::new(inbox), work: Mutex::new(work) };
        Lane { shared: Arc::clone(&self.0), track: Arc::new(track) }
    }
}

impl<W: Work + 'static> Lane<W> {
    /// Adds a frame. Returns how many were dropped: the oldest when too many wait, all once the work has ended.
    pub fn push(&self, frame: W::Frame) -> u64 {
        let mut inbox = lock(&self.track.inbox);
        if inbox.is_closed {
            return 1;
        }
        let is_full = inbox.frames.len() >= WAITING_MAX;
        if is_full {
            inbox.frames.pop_front();
        }
        inbox.frames.push_back(frame);
        let was_scheduled = std::mem::replace(&mut inbox.is_scheduled, true);
        drop(inbox);
        if !was_scheduled {
            self.shared.schedule(Arc::clone(&self.track) as Arc<dyn Turn>);
        }
        u64::from(is_full)
    }
}

impl Shared {
    fn run(&self) {
        while let Some(lane) = self.next() {
            if lane.take_turn() {
                self.schedule(lane);
            }
        }
    }

    fn next(&self) -> Option<Arc<dyn Turn>> {
        let mut ready = lock(&self.ready);
        loop {
            if ready.is_closed {
                return None;
            }
            if let Some(lane) = ready.lanes.pop_front() {
                return Some(lane);
            }
            ready = self.wakeup.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn schedule(&self, lane: Arc<dyn Turn>) {
        let mut ready = lock(&self.ready);
        if !ready.is_closed {
            ready.lanes.push_back(lane);
            drop(ready);
            self.wakeup.notify_one();
        }
    }
}

impl<W: Work> Turn for Track<W> {
    fn take_turn(&self) -> bool {
        let mut work = lock(&self.work);
        for _ in 0..TURN_FRAMES {
            let Some(frame) = lock(&self.inbox).take() else { return false };
            let outcome = catch_unwind(AssertUnwindSafe(|| work.on_frame(frame)));
            match outcome {
                Ok(ControlFlow::Continue(())) => continue,
                Ok(ControlFlow::Break(())) => {}
                // It costs this publisher its audio, and nobody else anything.
                Err(_) => work.on_panic(),
            }
            lock(&self.inbox).close();
            return false;
        }
        true
    }
}

impl<F> Inbox<F> {
    /// The oldest frame; without one, the lane is no longer scheduled.
    fn take(&mut self) -> Option<F> {
        let frame = self.frames.pop_front();
        self.is_scheduled = frame.is_some();
        frame
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.is_scheduled = false;
        self.frames = VecDeque::new();
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("lanes", &self.lanes.len()).field("is_closed", &self.is_closed).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Passes numbers on; ends at 1,000 and panics at 2,000. Says when it is dropped.
    struct Echo(Sender<i64>);

    impl Work for Echo {
        type Frame = i64;
        fn on_frame(&mut self, frame: i64) -> ControlFlow<()> {
            assert_ne!(frame, 2000, "a panic on purpose");
            let _ = self.0.send(frame);
            if frame == 1000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        fn on_panic(&mut self) {
            let _ = self.0.send(-2);
        }
    }

    /// Waits until it is told to go on.
    struct Gate(Receiver<()>);

    impl Work for Gate {
        type Frame = ();
        fn on_frame(&mut self, (): ()) -> ControlFlow<()> {
            let _ = self.0.recv();
            ControlFlow::Continue(())
        }
        fn on_panic(&mut self) {}
    }

    #[test]
    fn every_lane_keeps_its_order() {
        let pool = Pool::start().unwrap();
        let lanes: Vec<_> = (0..200)
            .map(|_| {
                let (sender, receiver) = channel();
                (pool.handle().lane(Echo(sender)), receiver)
            })
            .collect();
        for round in 0..10 {
            for frame in 0..5 {
                lanes.iter().for_each(|(lane, _)| assert_eq!(lane.push(round * 5 + frame), 0));
            }
        }
        for (lane, receiver) in lanes {
            drop(lane);
            assert!(receiver.iter().eq(0..50), "all in order, and then the work is dropped");
        }
    }

    #[test]
    fn a_panic_and_an_end_cost_their_own_lane_only() {
        let pool = Pool::start().unwrap();
        for _ in 0..50 {
            let (sender, panicked) = channel();
            let lane = pool.handle().lane(Echo(sender));
            lane.push(2000);
            assert_eq!(panicked.recv(), Ok(-2));
            let (sender, ended) = channel();
            let lane = pool.handle().lane(Echo(sender));
            lane.push(1000);
            assert_eq!(ended.recv(), Ok(1000));
        }
        let (sender, healthy) = channel();
        let lane = pool.handle().lane(Echo(sender));
        lane.push(7);
        assert_eq!(healthy.recv(), Ok(7), "no thread was lost");
    }

    #[test]
    fn a_lane_that_has_ended_takes_nothing_more() {
        let pool = Pool::start().unwrap();
        let (sender, receiver) = channel();
        let lane = pool.handle().lane(Echo(sender));
        lane.push(1000);
        assert_eq!(receiver.recv(), Ok(1000));
        while lane.push(1) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(lane.push(2), 1);
    }

    #[test]
    fn a_lane_that_is_too_slow_loses_its_oldest_frames() {
        let pool = Pool::start().unwrap();
        // Every thread is held up.
        let gates: Vec<_> = (0..pool.threads.len())
            .map(|_| {
                let (sender, receiver) = channel();
                let lane = pool.handle().lane(Gate(receiver));
                lane.push(());
                while !lock(&lane.track.inbox).frames.is_empty() {
                    std::thread::yield_now();
                }
                (lane, sender)
            })
            .collect();
        let (sender, receiver) = channel();
        let lane = pool.handle().lane(Echo(sender));
        let dropped: u64 = (0..100).map(|frame| lane.push(frame)).sum();
        assert_eq!(dropped, 36);
        drop((lane, gates));
        assert!(receiver.iter().eq(36..100));
    }

    #[test]
    fn a_pool_that_is_dropped_ends_its_threads() {
        let pool = Pool::start().unwrap();
        let handle = pool.handle();
        let (sender, receiver) = channel();
        let lane = handle.lane(Echo(sender));
        drop(pool);
        assert_eq!(lane.push(1), 0);
        drop(lane);
        assert!(receiver.recv().is_err(), "what comes later is dropped");
    }
}
