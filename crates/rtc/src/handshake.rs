//! Handshakes, on a thread beside each shard: key agreements and signatures take a good part of a millisecond, in which a
//! shard sends hundreds of packets. The thread is a polite one, so that on a busy core the lesson goes first.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Instant;

use crate::batch::Path;
use crate::bell::Bell;
use crate::dtls::{Dtls, DtlsError, Flight, Identity};
use crate::id::ViewerId;
use crate::sdp::Fingerprint;
use crate::srtp::Srtp;

/// Jobs that may wait for one thread: seconds of work. Beyond it datagrams are dropped, and DTLS sends them again.
const JOBS_MAX: usize = 4096;
/// How much less than a shard the thread is entitled to (nice(2)): a tenth of a core that both want.
const NICENESS: i32 = 10;

/// Something that a handshake is to be fed with.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) viewer: ViewerId,
    /// The session so far; none before the first datagram.
    pub(crate) dtls: Option<Box<Dtls>>,
    /// The certificate that the viewer's offer announced.
    pub(crate) expected: Fingerprint,
    pub(crate) input: Input,
    /// Where answers go: where the datagram came from.
    pub(crate) path: Option<Path>,
}

#[derive(Debug)]
pub(crate) enum Input {
    Datagram(Vec<u8>),
    Timeout,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) viewer: ViewerId,
    pub(crate) dtls: Option<Box<Dtls>>,
    pub(crate) outcome: Result<Option<Srtp>, DtlsError>,
    pub(crate) flight: Flight,
    pub(crate) path: Option<Path>,
}

/// The thread's work, done when its shard lets go of the desk.
#[derive(Debug)]
pub(crate) struct Handshaker {
    jobs: Receiver<Job>,
    done: SyncSender<Done>,
    bell: Bell,
    identity: Arc<Identity>,
}

/// The shard's end: where jobs are left and taken up again.
#[derive(Debug)]
pub(crate) struct Desk {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
}

impl Desk {
    /// Leaves a job; gives it back when too many wait.
    pub(crate) fn leave(&self, job: Job) -> Option<Job> {
        match self.jobs.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job)) => Some(job),
            Err(TrySendError::Disconnected(_)) => panic!("the handshake thread lives as long as its shard"),
        }
    }

    /// The next job that is done.
    pub(crate) fn take(&self) -> Option<Done> {
        match self.done.try_recv() {
            Ok(done) => Some(done),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the handshake thread lives as long as its shard"),
        }
    }
}

impl Handshaker {
    /// A thread's work and its shard's desk.
    pub(crate) fn new(identity: Arc<Identity>, bell: Bell) -> (Self, Desk) {
        let (jobs, jobs_in) = sync_channel(JOBS_MAX);
        let (done, done_in) = sync_channel(JOBS_MAX);
        (Self { jobs: jobs_in, done, bell, identity }, Desk { jobs, done: done_in })
    }

    pub(crate) fn run(self) {
        // Without the permission it is as urgent as its shard, which is less good and no harm.
        let _ = rustix::process::nice(NICENESS);
        while let Ok(job) = self.jobs.recv() {
            if self.done.send(work(&self.identity, Instant::now(), job)).is_err() {
                return;
            }
            self.bell.ring();
        }
    }
}

/// Does a job. A panic of the library costs one viewer, not all that come after: bytes of strangers reach it.
pub(crate) fn work(identity: &Identity, now: Instant, job: Job) -> Done {
    let (viewer, path) = (job.viewer, job.path);
    catch_unwind(AssertUnwindSafe(|| feed(identity, now, job))).unwrap_or_else(|_| Done {
        viewer,
        dtls: None,
        outcome: Err(DtlsError::Handshake("the DTLS library panicked".to_owned())),
        flight: Flight::new(),
        path,
    })
}

fn feed(identity: &Identity, now: Instant, job: Job) -> Done {
    let Job { viewer, dtls, expected, input, path } = job;
    let mut flight = Flight::new();
    let mut dtls = match dtls.map_or_else(|| Dtls::new(now, identity, expected), Ok) {
        Ok(dtls) => dtls,
        Err(error) => return Done { viewer, dtls: None, outcome: Err(error), flight, path },
    };
    let outcome = match input {
        Input::Datagram(datagram) => dtls.on_datagram(now, &datagram, &mut flight),
        Input::Timeout => dtls.on_timeout(now, &mut flight),
    };
    Done { viewer, dtls: Some(dtls), outcome, flight, path }
}
