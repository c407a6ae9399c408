//! The audio of one publisher: AAC through a transcoder of the pool, or Opus passed on as it is.
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::Publisher;
use media::aac::{AacError, AudioSpecificConfig, HighEfficiency};
use media::{AudioFrame, Frame, MediaTime};

use crate::metrics::Metrics;
use crate::pool::{Handle, Lane, Work};
use crate::publish::PublishError;
use crate::transcode::clock::{AudioClock, Correction};
use crate::transcode::{Redundancy, Transcoder};

/// Bytes of an AAC frame, with an ADTS header or without: its length has 13 bits (ISO/IEC 14496-3, section 1.A.2.2).
const AAC_BYTES_MAX: usize = (1 << 13) - 1;
/// The only length of Opus packets that is passed on: the count of packets is a clock.
const OPUS_PACKET: Duration = Duration::from_millis(20);
/// What the teacher is told about HE-AAC.
const CORE_ONLY: &str = "the app sends HE-AAC, of which only the lower half of the sound is played; choose AAC-LC in its settings";
/// What the teacher is told when a codec library panicked.
const PANICKED: &str = "the sound could not be converted; start the stream again";

/// The audio of one publisher.
pub(crate) struct Audio {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    config: Option<AudioSpecificConfig>,
    redundancy: Redundancy,
    pool: Handle,
    lane: Option<Lane<Worker>>,
    passthrough: AudioClock,
    state: Arc<State>,
}

/// What the worker tells.
#[derive(Debug, Default)]
struct State {
    has_begun: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// One AAC frame on its way to the transcoder.
struct AacFrame {
    config: AudioSpecificConfig,
    time: MediaTime,
    frame: Bytes,
    arrival: Instant,
}

/// The part that runs on the pool's threads.
struct Worker {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    redundancy: Redundancy,
    state: Arc<State>,
    transcoder: Option<(AudioSpecificConfig, Transcoder)>,
    /// When the last packet was due, of whatever transcoder or publisher.
    latest: MediaTime,
}

impl Audio {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        pool: Handle,
        redundancy: Redundancy,
        metrics: Metrics,
    ) -> Self {
        Self {
            passthrough: AudioClock::after(publisher.resume_after()),
            publisher,
            metrics,
            config: None,
            redundancy,
            pool,
            lane: None,
            state: Arc::default(),
        }
    }

    /// Whether packets have come out.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.has_begun.load(Ordering::Relaxed)
    }

    /// What the worker could not cope with ends the publication.
    pub(crate) fn check(&self) -> Result<(), PublishError> {
        let failure = self.state.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), |text| self.refuse(text))
    }

    pub(crate) fn on_config(&mut self, config: &[u8]) -> Result<(), PublishError> {
        let extension = HighEfficiency::parse(config).map(|_| CORE_ONLY.to_owned());
        self.publisher.set_problem("sound_core_only", extension)?;
        match AudioSpecificConfig::parse(config) {
            Ok(config) => self.config = Some(config),
            Err(AacError::Damaged) => self.metrics.damaged.inc(),
            Err(error) => return self.refuse(error.to_string()),
        }
        Ok(())
    }

    pub(crate) fn on_aac(&mut self, now: Instant, time: MediaTime, frame: Bytes) {
        if frame.len() > AAC_BYTES_MAX {
            self.metrics.damaged.inc();
            return;
        }
        // Encoders that send no configuration send ADTS headers, or what most send: stereo at 44.1 kHz.
        let config = media::aac::strip_adts(&frame).map(|(config, _)| config).or(self.config);
        let config = config.unwrap_or(AudioSpecificConfig { rate_hz: 44_100, channels: 2 });
        let lane = self.lane.get_or_insert_with(|| {
            self.pool.lane(Worker {
                publisher: Arc::clone(&self.publisher),
                metrics: self.metrics.clone(),
                redundancy: self.redundancy,
                state: Arc::clone(&self.state),
                transcoder: None,
                latest: self.publisher.resume_after(),
            })
        });
        self.metrics.audio_dropped.inc_by(lane.push(AacFrame { config, time, frame, arrival: now }));
    }

    pub(crate) fn on_opus(
        &mut self,
        now: Instant,
        time: MediaTime,
        packet: &Bytes,
    ) -> Result<(), PublishError> {
        if media::opus::duration(packet) != Some(OPUS_PACKET) {
            return self.refuse(
                "the app sends Opus packets that are not 20 ms long; choose 20 ms, or AAC".to_owned(),
            );
        }
        if let Correction::Trim(_) = self.passthrough.on_input(time, 0.0, 0.0) {
            let time = self.passthrough.next_packet();
            self.publisher.push(Frame::Audio(AudioFrame { time, packet: packet.clone(), arrival: now }))?;
            self.state.has_begun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn refuse(&self, text: String) -> Result<(), PublishError> {
        self.publisher.set_problem("sound_unsupported", Some(text.clone()))?;
        Err(PublishError::Unusable(text))
    }
}

impl Work for Worker {
    type Frame = AacFrame;

    fn on_frame(&mut self, aac: AacFrame) -> ControlFlow<()> {
        let current = match self.transcoder.take().filter(|(config, _)| *config == aac.config) {
            Some(current) => current,
            None => match Transcoder::new(aac.config, self.redundancy) {
                Ok(new) => (aac.config, new.after(self.latest)),
                Err(error) => return self.fail(error.to_string()),
            },
        };
        let (_, transcoder) = self.transcoder.insert(current);
        let (publisher, state, latest) = (&self.publisher, &self.state, &mut self.latest);
        let damaged_before = transcoder.damaged_frames;
        let mut is_superseded = false;
        let outcome = transcoder.push(aac.time, &aac.frame, |opus| {
            state.has_begun.store(true, Ordering::Relaxed);
            *latest = opus.time;
            let frame = AudioFrame { time: opus.time, packet: opus.packet, arrival: aac.arrival };
            is_superseded |= publisher.push(Frame::Audio(frame)).is_err();
        });
        self.metrics.damaged.inc_by(transcoder.damaged_frames - damaged_before);
        match outcome {
            Err(error) => self.fail(error.to_string()),
            Ok(()) if is_superseded => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
        }
    }

    fn on_panic(&mut self) {
        self.metrics.transcoder_panics.inc();
        tracing::error!("audio transcoder panicked; its publisher is ended");
        let _ = self.fail(PANICKED.to_owned());
    }
}

impl Worker {
    fn fail(&self, text: String) -> ControlFlow<()> {
        *self.state.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        ControlFlow::Break(())
    }
}
