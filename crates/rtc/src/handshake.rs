//! Handshakes, on a thread beside each shard: key agreements and signatures take a good part of a millisecond, in which a
//! shard sends hundreds of packets. The thread is a polite one, so that on a busy core the lesson goes first.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use mio::Waker;

use crate::batch::Path;
use crate::dtls::{Dtls, DtlsError, Flight};
use crate::engine::{Shared, ViewerId};
use crate::sdp::Fingerprint;
use crate::srtp::Srtp;

/// Jobs that may wait for one thread: seconds of work. Beyond it datagrams are dropped, and DTLS sends them again.
pub(crate) const JOBS_MAX: usize = 4096;
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

/// The thread's work, done when its shard lets go of it.
#[derive(Debug)]
pub(crate) struct Handshaker {
    pub(crate) jobs: Receiver<Job>,
    pub(crate) done: SyncSender<Done>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) shared: Arc<Shared>,
}

impl Handshaker {
    pub(crate) fn run(self) {
        // Without the permission it is as urgent as its shard, which is less good and no harm.
        let _ = rustix::process::nice(NICENESS);
        while let Ok(job) = self.jobs.recv() {
            let (viewer, path) = (job.viewer, job.path);
            // Strangers' bytes reach a library here: what breaks it costs one viewer, not all that come after.
            let done = catch_unwind(AssertUnwindSafe(|| self.work(job)));
            let done = done.unwrap_or_else(|_| Done {
                viewer,
                dtls: None,
                outcome: Err(DtlsError::Handshake("the library broke down".to_owned())),
                flight: Flight::new(),
                path,
            });
            if self.done.send(done).is_err() {
                return;
            }
            let _ = self.waker.wake();
        }
    }

    fn work(&self, job: Job) -> Done {
        let Job { viewer, dtls, expected, input, path } = job;
        let mut flight = Flight::new();
        let now = Instant::now();
        let mut dtls = match dtls.map_or_else(|| Dtls::new(now, &self.shared.identity, expected), Ok) {
            Ok(dtls) => dtls,
            Err(error) => return Done { viewer, dtls: None, outcome: Err(error), flight, path },
        };
        let outcome = match input {
            Input::Datagram(datagram) => dtls.on_datagram(now, &datagram, &mut flight),
            Input::Timeout => dtls.on_timeout(now, &mut flight),
        };
        Done { viewer, dtls: Some(dtls), outcome, flight, path }
    }
}
