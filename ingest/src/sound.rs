//! The sound of one publisher: its transcoder on a blocking thread, or Opus passed on as it is.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::Publisher;
use media::MediaTime;
use media::aac::{AacError, AudioSpecificConfig, HighEfficiency};

use crate::metrics::Metrics;
use crate::publish::{PublishError, audio_frame};
use crate::transcode::clock::{AudioClock, Correction};
use crate::transcode::{Redundancy, Transcoder};

/// AAC frames that may wait for the transcoder: a second and a half. A machine that is this far behind drops sound.
const WAITING_MAX: usize = 64;
/// The only length of Opus packets that is passed on: the count of packets is a clock.
const OPUS_PACKET: Duration = Duration::from_millis(20);
/// What the teacher is told about HE-AAC.
const CORE_ONLY: &str = "the app sends HE-AAC, of which only the lower half of the sound is played; choose AAC-LC in its settings";

/// One AAC frame on its way to the transcoder.
struct Waiting {
    config: AudioSpecificConfig,
    time: MediaTime,
    frame: Bytes,
    arrival: Instant,
}

/// The sound of one publisher.
pub(crate) struct Sound {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    config: Option<AudioSpecificConfig>,
    redundancy: Redundancy,
    worker: Option<SyncSender<Waiting>>,
    passthrough: AudioClock,
    state: Arc<State>,
}

/// What the worker tells.
#[derive(Debug, Default)]
struct State {
    has_begun: AtomicBool,
    failure: std::sync::Mutex<Option<String>>,
}

impl Sound {
    pub(crate) fn new(publisher: Arc<Publisher>, redundancy: Redundancy, metrics: Metrics) -> Self {
        Self {
            publisher,
            metrics,
            config: None,
            redundancy,
            worker: None,
            passthrough: AudioClock::default(),
            state: Arc::default(),
        }
    }

    /// Whether packets have come out.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.has_begun.load(Ordering::Relaxed)
    }

    /// What the worker could not cope with ends the publication.
    pub(crate) fn check(&self) -> Result<(), PublishError> {
        let failure = self.state.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        failure.map_or(Ok(()), |text| {
            self.publisher.set_problem("sound_unsupported", Some(text.clone()))?;
            Err(PublishError::Unusable(text))
        })
    }

    pub(crate) fn on_config(&mut self, config: &[u8]) -> Result<(), PublishError> {
        let extension = HighEfficiency::parse(config).map(|_| CORE_ONLY.to_owned());
        self.publisher.set_problem("sound_core_only", extension)?;
        match AudioSpecificConfig::parse(config) {
            Ok(config) => self.config = Some(config),
            Err(AacError::Damaged) => self.metrics.damaged.inc(),
            Err(error) => {
                self.publisher.set_problem("sound_unsupported", Some(error.to_string()))?;
                return Err(PublishError::Unusable(error.to_string()));
            }
        }
        Ok(())
    }

    pub(crate) fn on_aac(&mut self, now: Instant, time: MediaTime, frame: Bytes) {
        // Encoders that send no configuration send ADTS headers, or what most send: stereo at 44.1 kHz.
        let config = media::aac::strip_adts(&frame).map(|(config, _)| config).or(self.config);
        let config = config.unwrap_or(AudioSpecificConfig { rate_hz: 44_100, channels: 2 });
        let worker = self.worker.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel(WAITING_MAX);
            let (publisher, state) = (Arc::clone(&self.publisher), Arc::clone(&self.state));
            let (redundancy, metrics) = (self.redundancy, self.metrics.clone());
            // The thread ends when this side of the channel is dropped with the publication.
            tokio::task::spawn_blocking(move || {
                transcode(&receiver, redundancy, &publisher, &state, &metrics);
            });
            sender
        });
        match worker.try_send(Waiting { config, time, frame, arrival: now }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.metrics.sound_dropped.inc(),
        }
    }

    pub(crate) fn on_opus(
        &mut self,
        now: Instant,
        time: MediaTime,
        packet: &Bytes,
    ) -> Result<(), PublishError> {
        if media::opus::duration(packet) != Some(OPUS_PACKET) {
            let text = "the app sends Opus packets that are not 20 ms long; choose 20 ms, or AAC".to_owned();
            self.publisher.set_problem("sound_unsupported", Some(text.clone()))?;
            return Err(PublishError::Unusable(text));
        }
        if let Correction::Trim(_) = self.passthrough.on_input(time, 0.0, 0.0) {
            let frame = audio_frame(self.passthrough.next_packet(), packet.clone(), now);
            self.publisher.push(frame)?;
            self.state.has_begun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn transcode(
    waiting: &Receiver<Waiting>,
    redundancy: Redundancy,
    publisher: &Publisher,
    state: &State,
    metrics: &Metrics,
) {
    let fail = |text: String| {
        *state.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text);
    };
    let mut transcoder: Option<(AudioSpecificConfig, Transcoder)> = None;
    while let Ok(Waiting { config, time, frame, arrival }) = waiting.recv() {
        let current = match transcoder.take().filter(|(current, _)| *current == config) {
            Some(current) => current,
            None => match Transcoder::new(config, redundancy) {
                Ok(new) => (config, new),
                Err(error) => return fail(error.to_string()),
            },
        };
        let (_, machine) = transcoder.insert(current);
        let damaged_before = machine.damaged_frames;
        let mut is_superseded = false;
        let outcome = machine.push(time, &frame, |opus| {
            state.has_begun.store(true, Ordering::Relaxed);
            is_superseded |= publisher.push(audio_frame(opus.time, opus.packet, arrival)).is_err();
        });
        metrics.damaged.inc_by(machine.damaged_frames - damaged_before);
        if let Err(error) = outcome {
            return fail(error.to_string());
        }
        if is_superseded {
            return;
        }
    }
}
