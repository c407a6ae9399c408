//! The audio of one publisher: through a transcoder of the pool, or Opus passed on as it is.
mod worker;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Publisher, Superseded};
use media::aac::{AacError, AudioSpecificConfig, HighEfficiency, SbrSearch};
use media::flv::audio::Codec;
use media::{AudioFrame, Frame, MediaTime};

use self::worker::{Coded, State, Worker};
use crate::health::Sound;
use crate::metrics::Metrics;
use crate::pool::{Handle, Lane};
use crate::transcode::clock::{AudioClock, Correction};
use crate::transcode::source::Source;
use crate::transcode::{CHANNELS_MAX, Redundancy, TranscodeError};

/// Sound in one message of another codec, of which ffmpeg sends up to 186 ms: the pool's threads take turns by messages.
const CODED_MAX: Duration = Duration::from_millis(250);
/// Bytes of an MP3 frame: 320 kbit/s at 32 kHz are 1,440, and the free format has little more.
const MP3_BYTES_MAX: usize = 2 << 10;
/// Bytes of an AAC frame, with an ADTS header or without: its length has 13 bits (ISO/IEC 14496-3, section 1.A.2.2).
const AAC_BYTES_MAX: usize = (1 << 13) - 1;
/// For so long after the last of it sound that cannot be played counts as what is sent.
const REFUSED_MIN: Duration = Duration::from_millis(500);
/// The only length of Opus packets that is passed on: the count of packets is a clock.
const OPUS_PACKET: Duration = Duration::from_millis(20);
/// Opus of more channels are several streams in one packet (RFC 7845, section 5.1.1), which only its header tells.
const OPUS_CHANNELS_MAX: u8 = 2;
/// What the teacher is told of messages beyond these bounds.
const TOO_LARGE: &str = "The app sends too much sound in one message; choose AAC in its settings";
/// What the teacher is told about HE-AAC.
const CORE_ONLY: &str = "The app sends HE-AAC, of which only the lower half of the sound is played; choose AAC-LC in its settings";

/// The audio of one publisher.
pub(crate) struct Audio {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    config: Option<AudioSpecificConfig>,
    redundancy: Redundancy,
    pool: Handle,
    lane: Option<Lane<Worker>>,
    passthrough: AudioClock,
    passthrough_latest: MediaTime,
    /// Looks for HE-AAC that nothing announces.
    search: SbrSearch,
    /// The teacher was told that it is found or announced.
    is_core_only: bool,
    /// By the header of Opus.
    opus_channels: u8,
    state: Arc<State>,
    refused: Option<Refused>,
}

/// Sound that cannot be played. The picture goes on without it.
pub(crate) struct Refused {
    pub(crate) since: Instant,
    /// When it came last.
    latest: Instant,
    /// Why, for the teacher.
    pub(crate) text: String,
}

impl Audio {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        pool: Handle,
        redundancy: Redundancy,
        metrics: Metrics,
    ) -> Self {
        let state = State::default();
        state.set_latest(publisher.resume_after());
        Self {
            passthrough: AudioClock::after(publisher.resume_after()),
            passthrough_latest: publisher.resume_after(),
            publisher,
            metrics,
            config: None,
            redundancy,
            pool,
            lane: None,
            search: SbrSearch::default(),
            is_core_only: false,
            opus_channels: OPUS_CHANNELS_MAX,
            state: Arc::new(state),
            refused: None,
        }
    }

    /// Whether packets come out.
    pub(crate) fn is_playing(&self) -> bool {
        self.state.has_begun.load(Ordering::Relaxed) && self.refused.is_none()
    }

    /// What is known of it beyond its arrival.
    pub(crate) fn sound(&self) -> Sound {
        Sound {
            undecodable: self.state.undecodable.load(Ordering::Relaxed),
            silent: Duration::from_micros(self.state.silent_us.load(Ordering::Relaxed)),
            is_refused: self.refused.is_some(),
        }
    }

    /// Why it cannot be played, if it cannot.
    pub(crate) fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    /// Takes up what the worker could not cope with.
    pub(crate) fn check(&mut self, now: Instant) -> Result<(), Superseded> {
        let failure = self.state.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(text) = failure else { return Ok(()) };
        // Its work has ended; what comes next gets another, AAC with its next configuration.
        (self.lane, self.config) = (None, None);
        self.refuse(now, text)
    }

    pub(crate) fn on_config(&mut self, now: Instant, config: &[u8]) -> Result<(), Superseded> {
        let parsed = AudioSpecificConfig::parse(config);
        let is_announced = HighEfficiency::parse(config).is_some();
        // Some repeat it with each keyframe: what was found in the frames stays true.
        if is_announced || parsed.ok() != self.config {
            self.search = SbrSearch::default();
            self.set_core_only(is_announced)?;
        }
        match parsed {
            Ok(config) if config.channels > CHANNELS_MAX => {
                self.config = None;
                self.refuse(now, TranscodeError::Channels(config.channels).to_string())
            }
            Ok(config) => {
                self.config = Some(config);
                self.accept(now).map(|_| ())
            }
            Err(AacError::Damaged) => {
                self.metrics.damaged.inc();
                Ok(())
            }
            Err(error) => {
                self.config = None;
                self.refuse(now, error.to_string())
            }
        }
    }

    pub(crate) fn on_aac(&mut self, now: Instant, time: MediaTime, frame: Bytes) -> Result<(), Superseded> {
        if frame.len() > AAC_BYTES_MAX {
            return self.refuse(now, TOO_LARGE.to_owned());
        }
        let config = media::aac::strip_adts(&frame).map(|(config, _)| config).or(self.config);
        if let Some(config) = config.filter(|config| config.channels > CHANNELS_MAX) {
            return self.refuse(now, TranscodeError::Channels(config.channels).to_string());
        }
        if self.refused.is_some() {
            // Without a new configuration it is what was refused.
            if config.is_none() {
                return Ok(());
            }
            if !self.accept(now)? {
                return Ok(());
            }
        }
        if self.search.on_frame(&frame) {
            self.set_core_only(true)?;
        }
        // Encoders that send no configuration send ADTS headers, or what most send: stereo at 44.1 kHz.
        let config = config.unwrap_or(AudioSpecificConfig { rate_hz: 44_100, channels: 2 });
        self.transcode(Coded { source: Source::Aac(config), time, frame, arrival: now });
        Ok(())
    }

    /// A frame of a codec that needs no configuration.
    pub(crate) fn on_coded(
        &mut self,
        now: Instant,
        time: MediaTime,
        codec: Codec,
        frame: Bytes,
    ) -> Result<(), Superseded> {
        if frame.len() > codec.bytes_in(CODED_MAX).unwrap_or(MP3_BYTES_MAX) {
            return self.refuse(now, TOO_LARGE.to_owned());
        }
        if !self.accept(now)? {
            return Ok(());
        }
        self.set_core_only(false)?;
        self.transcode(Coded { source: Source::Other(codec), time, frame, arrival: now });
        Ok(())
    }

    fn transcode(&mut self, coded: Coded) {
        let lane = self.lane.get_or_insert_with(|| {
            self.pool.lane(Worker {
                publisher: Arc::clone(&self.publisher),
                metrics: self.metrics.clone(),
                redundancy: self.redundancy,
                state: Arc::clone(&self.state),
                transcoder: None,
                latest: self.state.latest(),
            })
        });
        self.metrics.audio_dropped.inc_by(lane.push(coded));
    }

    pub(crate) fn on_opus_config(&mut self, now: Instant, channels: u8) -> Result<(), Superseded> {
        self.opus_channels = channels;
        if channels > OPUS_CHANNELS_MAX {
            return self.refuse(now, TranscodeError::Channels(channels).to_string());
        }
        Ok(())
    }

    pub(crate) fn on_opus(
        &mut self,
        now: Instant,
        time: MediaTime,
        packet: &Bytes,
    ) -> Result<(), Superseded> {
        if self.opus_channels > OPUS_CHANNELS_MAX {
            return self.refuse(now, TranscodeError::Channels(self.opus_channels).to_string());
        }
        if packet.len() > media::opus::PACKET_BYTES_MAX {
            let text =
                "The app sends Opus packets that are too large; choose at most 320 kbit/s in its settings";
            return self.refuse(now, text.to_owned());
        }
        if media::opus::duration(packet) != Some(OPUS_PACKET) {
            let text = "The app sends Opus packets that are not 20 ms long; choose 20 ms, or AAC";
            return self.refuse(now, text.to_owned());
        }
        if !self.accept(now)? {
            return Ok(());
        }
        self.set_core_only(false)?;
        // Nothing of it is decoded.
        self.state.undecodable.store(0, Ordering::Relaxed);
        self.state.silent_us.store(0, Ordering::Relaxed);
        let latest = self.state.latest();
        if latest > self.passthrough_latest {
            // A transcoder has given packets since.
            (self.passthrough, self.passthrough_latest) = (AudioClock::after(latest), latest);
        }
        if let Correction::Trim(_) = self.passthrough.on_input(time, 0.0, 0.0) {
            let time = self.passthrough.next_packet();
            self.passthrough_latest = time;
            self.state.set_latest(time);
            self.publisher.push(Frame::Audio(AudioFrame { time, packet: packet.clone(), arrival: now }))?;
            self.state.has_begun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Tells of HE-AAC, or that there is none any more.
    fn set_core_only(&mut self, is_core_only: bool) -> Result<(), Superseded> {
        if std::mem::replace(&mut self.is_core_only, is_core_only) != is_core_only {
            self.search = SbrSearch::default();
            self.publisher.set_problem("sound_core_only", is_core_only.then(|| CORE_ONLY.to_owned()))?;
        }
        Ok(())
    }

    /// There is no sound from now on, and the teacher is told why. The picture goes on.
    pub(crate) fn refuse(&mut self, now: Instant, text: String) -> Result<(), Superseded> {
        if let Some(refused) = self.refused.as_mut().filter(|refused| refused.text == text) {
            refused.latest = now;
            return Ok(());
        }
        tracing::info!(reason = text, "the publisher's sound cannot be played");
        self.publisher.set_problem("sound_unsupported", Some(text.clone()))?;
        let since = self.refused.take().map_or(now, |refused| refused.since);
        self.refused = Some(Refused { since, latest: now, text });
        Ok(())
    }

    /// What comes now can be played. Not if what could not came just before: sound that changes to and fro is told of once.
    fn accept(&mut self, now: Instant) -> Result<bool, Superseded> {
        let Some(refused) = &self.refused else { return Ok(true) };
        if now < refused.latest + REFUSED_MIN {
            return Ok(false);
        }
        self.refused = None;
        tracing::info!("the publisher's sound can be played again");
        self.publisher.set_problem("sound_unsupported", None)?;
        Ok(true)
    }
}
