//! The part of a publisher's audio that runs on the pool's threads, and what it tells the rest.
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::Publisher;
use media::{AudioFrame, Frame, MediaTime};

use crate::metrics::Metrics;
use crate::pool::Work;
use crate::transcode::source::Source;
use crate::transcode::{Redundancy, Transcoder};

/// Frames that cannot be decoded are counted up to this: a second after the last the sound is well again.
const UNDECODABLE_MAX: u32 = 48;
/// What the teacher is told when a codec library panicked.
const PANICKED: &str = "The sound could not be converted; start the stream again";

/// What the worker tells.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) has_begun: AtomicBool,
    /// Frames that could not be decoded beyond those that could, and how long the latter have been silent.
    pub(super) undecodable: AtomicU32,
    pub(super) silent_us: AtomicU64,
    /// When the last packet was due, in microseconds, of whatever made it.
    pub(super) latest_us: AtomicI64,
    pub(super) failure: Mutex<Option<String>>,
}

/// One frame on its way to the transcoder.
pub(super) struct Coded {
    pub(super) source: Source,
    pub(super) time: MediaTime,
    pub(super) frame: Bytes,
    pub(super) arrival: Instant,
}

/// The part that runs on the pool's threads.
pub(super) struct Worker {
    pub(super) publisher: Arc<Publisher>,
    pub(super) metrics: Metrics,
    pub(super) redundancy: Redundancy,
    pub(super) state: Arc<State>,
    pub(super) transcoder: Option<(Source, Transcoder)>,
    /// When its last packet was due.
    pub(super) latest: MediaTime,
}

impl State {
    pub(super) fn latest(&self) -> MediaTime {
        MediaTime::from_micros(self.latest_us.load(Ordering::Relaxed))
    }

    pub(super) fn set_latest(&self, latest: MediaTime) {
        self.latest_us.store(latest.as_micros(), Ordering::Relaxed);
    }

    /// One worker counts at a time.
    fn count(&self, is_damaged: bool, silence: Option<Duration>) {
        let undecodable = self.undecodable.load(Ordering::Relaxed);
        if is_damaged {
            self.undecodable.store((undecodable + 1).min(UNDECODABLE_MAX), Ordering::Relaxed);
            return;
        }
        // Of what is no AAC now and then something decodes.
        self.undecodable.store(undecodable.saturating_sub(1), Ordering::Relaxed);
        match silence {
            Some(took) => {
                self.silent_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(0), Ordering::Relaxed);
            }
            None => self.silent_us.store(0, Ordering::Relaxed),
        }
    }
}

impl Work for Worker {
    type Frame = Coded;

    fn on_frame(&mut self, coded: Coded) -> ControlFlow<()> {
        let latest = self.state.latest();
        if latest > self.latest {
            // Packets have been passed on meanwhile.
            (self.transcoder, self.latest) = (None, latest);
        }
        let current = match self.transcoder.take().filter(|(source, _)| *source == coded.source) {
            Some(current) => current,
            None => match Transcoder::new(coded.source, self.redundancy) {
                Ok(new) => (coded.source, new.after(self.latest)),
                Err(error) => return self.fail(error.to_string()),
            },
        };
        let (_, transcoder) = self.transcoder.insert(current);
        let (publisher, state, latest) = (&self.publisher, &self.state, &mut self.latest);
        let damaged_before = transcoder.damaged_frames;
        let mut is_superseded = false;
        let outcome = transcoder.push(coded.time, &coded.frame, |opus| {
            state.has_begun.store(true, Ordering::Relaxed);
            *latest = opus.time;
            state.set_latest(opus.time);
            let frame = AudioFrame { time: opus.time, packet: opus.packet, arrival: coded.arrival };
            is_superseded |= publisher.push(Frame::Audio(frame)).is_err();
        });
        let damaged = transcoder.damaged_frames - damaged_before;
        self.metrics.damaged.inc_by(damaged);
        state.count(damaged > 0, transcoder.silence());
        match outcome {
            Err(error) => self.fail(error.to_string()),
            Ok(()) if is_superseded => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
        }
    }

    fn on_panic(&mut self) {
        self.metrics.transcoder_panics.inc();
        tracing::error!("audio transcoder panicked; its publisher goes on without sound");
        let _ = self.fail(PANICKED.to_owned());
    }
}

impl Worker {
    fn fail(&self, text: String) -> ControlFlow<()> {
        *self.state.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        ControlFlow::Break(())
    }
}
