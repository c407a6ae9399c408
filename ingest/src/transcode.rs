//! AAC, and what else encoders send, into Opus: what browsers play over WebRTC.
//!
//! Decode (symphonia), resample to 48 kHz (rubato), encode packets of 20 ms (libopus). The packets' times are counted in
//! samples and never taken from the publisher's timestamps, whose rounding to milliseconds players hear as gaps;
//! [`clock`] keeps the count and the timestamps together.
pub mod clock;
pub mod source;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use media::MediaTime;
use opus::{Application, Bitrate, Channels, Encoder};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable, Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};
use symphonia::core::codecs::audio::AudioDecoder;
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration as SymphoniaDuration, Timestamp};
use thiserror::Error;

use self::clock::{AudioClock, Correction, PACKET_SAMPLES, RATE_HZ};
use self::source::{AAC_FRAME_SAMPLES, Source};

/// Samples that the resampler takes at once. An AAC frame has eight times as many.
const CHUNK_FRAMES: usize = 128;
/// How far the resampler's ratio may be trimmed: 0.1 %, which nobody hears.
const TRIM_MAX: f64 = 1.001;
/// The same for the resampler, which asks for the bound when it is made: more than [`TRIM_MAX`], so that no trim is refused.
const RATIO_RANGE: f64 = 1.01;
/// Points of the resampler's filter between two samples, from which it interpolates: enough for 16 bits of precision.
const FILTER_OVERSAMPLING: usize = 128;
/// Channels that the decoder takes.
pub(crate) const CHANNELS_MAX: u8 = 2;
/// Samples at 48 kHz by which libopus delays at this rate, if it does not say: 6.5 ms (RFC 6716, section 2).
const LOOKAHEAD_SAMPLES: i32 = 312;
/// What is never louder than this, -70 dB of full scale, is a microphone that is switched off: rooms are louder. G.711's A-law has no
/// zero: its least is -72 dB.
const PEAK_MIN: f32 = 3e-4;
/// Taps of the resampler's filter: 1.5 ms to either side at 44.1 kHz.
const FILTER_TAPS: usize = 128;
/// Bytes of one Opus packet at most (RFC 6716, section 3.4 allows 1275).
const PACKET_BYTES_MAX: usize = 1275;
/// libopus's effort: 4 to 5 ms of a core for a second of sound.
const COMPLEXITY: i32 = 5;
/// The same when packets repeat the one before them: 14 to 17 ms.
const COMPLEXITY_REDUNDANT: i32 = 9;
/// The loss for which libopus weighs how much to repeat.
const EXPECTED_LOSS_PERCENT: i32 = 10;
/// Bits a second for one and for two channels.
const BITRATE_MONO_BPS: i32 = 64_000;
const BITRATE_STEREO_BPS: i32 = 96_000;

/// One packet of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusPacket {
    /// When its first sample is due.
    pub time: MediaTime,
    /// The packet.
    pub packet: Bytes,
}

/// Whether packets carry a copy of the one before them, in low quality (RFC 6716, section 2.1.7): a player whose network
/// loses single packets then plays on. It costs quality at the same rate, and three times the computing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redundancy {
    /// They do not.
    #[default]
    None,
    /// They do.
    InBandFec,
}

/// Why sound cannot be made.
#[derive(Debug, Error)]
pub enum TranscodeError {
    /// More channels than the decoder takes.
    #[error("The app sends sound with {0} channels; choose mono or stereo in its settings")]
    Channels(u8),
    /// A codec library refuses.
    #[error("The sound cannot be converted ({part}: {reason}); start the stream again")]
    Library {
        /// Which.
        part: &'static str,
        /// What it says.
        reason: String,
    },
}

/// The sound of one publisher. Runs for milliseconds at a time: keep it off the threads that wait for sockets.
pub struct Transcoder {
    source: Source,
    redundancy: Redundancy,
    decoder: Box<dyn AudioDecoder>,
    stage: Option<Stage>,
    clock: AudioClock,
    pcm: Vec<f32>,
    /// How long the last frame was, if there was nothing to hear in it.
    silence: Option<Duration>,
    /// Frames that could not be decoded; silence took their place where their length is known.
    pub damaged_frames: u64,
}

/// What depends on the rate and the channels that the decoder really gives.
struct Stage {
    rate_hz: u32,
    channels: usize,
    resampler: Async<f32>,
    encoder: Encoder,
    input: VecDeque<f32>,
    output: VecDeque<f32>,
    resampled: Vec<f32>,
}

impl Transcoder {
    /// For a stream with this configuration.
    pub fn new(source: impl Into<Source>, redundancy: Redundancy) -> Result<Self, TranscodeError> {
        let source = source.into();
        Ok(Self {
            source,
            redundancy,
            decoder: source.decoder()?,
            stage: None,
            clock: AudioClock::default(),
            pcm: Vec::new(),
            silence: None,
            damaged_frames: 0,
        })
    }

    /// How long the last frame was, if there was nothing to hear in it.
    pub fn silence(&self) -> Option<Duration> {
        self.silence
    }

    /// Lets its packets go on after one that was due at `latest`.
    #[must_use]
    pub fn after(mut self, latest: MediaTime) -> Self {
        self.clock = AudioClock::after(latest);
        self
    }

    /// Takes one frame, due at `time`, and gives the packets that are complete.
    pub fn push(
        &mut self,
        time: MediaTime,
        frame: &[u8],
        mut give: impl FnMut(OpusPacket),
    ) -> Result<(), TranscodeError> {
        let Some((rate_hz, channels)) = self.decode(frame)? else { return Ok(()) };
        let is_same =
            self.stage.as_ref().is_some_and(|stage| stage.rate_hz == rate_hz && stage.channels == channels);
        if !is_same {
            // Rate or channels change: a new encoder, whose packets go on where the old one's ended.
            self.stage = Some(Stage::new(rate_hz, channels, self.redundancy)?);
            self.clock.restart_pending();
        }
        let Some(stage) = &mut self.stage else { return Ok(()) };
        match self.clock.on_input(time, stage.pending_samples(), stage.delay_samples()) {
            Correction::Drop => return Ok(()),
            Correction::Trim(ratio) => {
                let ratio = ratio.clamp(1.0 / TRIM_MAX, TRIM_MAX);
                stage.resampler.set_resample_ratio_relative(ratio, true).map_err(library("resampler"))?;
            }
        }
        stage.input.extend(&self.pcm);
        stage.resample()?;
        while let Some(packet) = stage.encode()? {
            give(OpusPacket { time: self.clock.next_packet(), packet });
        }
        Ok(())
    }

    /// Decodes into `pcm`; says its rate and its channels. An AAC frame that cannot be decoded becomes silence of its length; of
    /// others nobody knows how long they are.
    fn decode(&mut self, frame: &[u8]) -> Result<Option<(u32, usize)>, TranscodeError> {
        let frame = match self.source {
            Source::Aac(_) => media::aac::strip_adts(frame).map_or(frame, |(_, rest)| rest),
            Source::Other(_) => frame,
        };
        let took = SymphoniaDuration::from(u32::from(AAC_FRAME_SAMPLES));
        let packet = PacketRef::new(0, Timestamp::from(0_u32), took, frame);
        // A panic of the decoder on damaged input costs this frame, not the lesson.
        let decoded = catch_unwind(AssertUnwindSafe(|| match self.decoder.decode_ref(&packet) {
            Ok(buffer) if buffer.frames() > 0 && buffer.num_planes() <= usize::from(CHANNELS_MAX) => {
                buffer.copy_to_vec_interleaved(&mut self.pcm);
                Some((buffer.spec().rate(), buffer.num_planes(), buffer.frames()))
            }
            _ => None,
        }));
        if let Ok(Some((rate_hz, channels, samples))) = decoded {
            let peak = self.pcm.iter().fold(0.0, |peak: f32, sample| sample.abs().max(peak));
            let took = Duration::from_secs(samples as u64) / rate_hz.max(1);
            self.silence = (peak < PEAK_MIN).then_some(took);
            return Ok(Some((rate_hz, channels)));
        }
        // The MP3 decoder keeps to the rate of its first frame.
        if decoded.is_err() || matches!(self.source, Source::Other(_)) {
            self.decoder = self.source.decoder()?;
        }
        self.damaged_frames += 1;
        self.pcm.clear();
        Ok(self.source.shape().map(|(rate_hz, channels, samples)| {
            self.pcm.resize(usize::from(channels) * usize::from(samples), 0.0);
            (rate_hz, usize::from(channels))
        }))
    }
}

impl Stage {
    fn new(rate_hz: u32, channels: usize, redundancy: Redundancy) -> Result<Self, TranscodeError> {
        let parameters = SincInterpolationParameters {
            sinc_len: FILTER_TAPS,
            f_cutoff: None,
            oversampling_factor: FILTER_OVERSAMPLING,
            interpolation: SincInterpolationType::Linear,
            window: WindowFunction::BlackmanHarris2,
        };
        let ratio = f64::from(RATE_HZ) / f64::from(rate_hz);
        let resampler =
            Async::new_sinc(ratio, RATIO_RANGE, &parameters, CHUNK_FRAMES, channels, FixedAsync::Input)
                .map_err(library("resampler"))?;
        let (layout, bitrate) = if channels == 1 {
            (Channels::Mono, BITRATE_MONO_BPS)
        } else {
            (Channels::Stereo, BITRATE_STEREO_BPS)
        };
        let mut encoder =
            Encoder::new(RATE_HZ, layout, Application::Audio).map_err(library("Opus encoder"))?;
        encoder.set_bitrate(Bitrate::Bits(bitrate)).map_err(library("Opus encoder"))?;
        let complexity = match redundancy {
            Redundancy::None => COMPLEXITY,
            Redundancy::InBandFec => {
                encoder.set_inband_fec(true).map_err(library("Opus encoder"))?;
                encoder.set_packet_loss_perc(EXPECTED_LOSS_PERCENT).map_err(library("Opus encoder"))?;
                COMPLEXITY_REDUNDANT
            }
        };
        encoder.set_complexity(complexity).map_err(library("Opus encoder"))?;
        let resampled = vec![0.0; resampler.output_frames_max() * channels];
        Ok(Self {
            rate_hz,
            channels,
            resampler,
            encoder,
            input: VecDeque::new(),
            output: VecDeque::new(),
            resampled,
        })
    }

    fn resample(&mut self) -> Result<(), TranscodeError> {
        let chunk = CHUNK_FRAMES * self.channels;
        while self.input.len() >= chunk {
            let input: Vec<f32> = self.input.drain(..chunk).collect();
            let input =
                InterleavedSlice::new(&input, self.channels, CHUNK_FRAMES).map_err(library("resampler"))?;
            let frames = self.resampled.len() / self.channels;
            let mut output = InterleavedSlice::new_mut(&mut self.resampled, self.channels, frames)
                .map_err(library("resampler"))?;
            let (_, written) = self
                .resampler
                .process_into_buffer(&input, &mut output, None)
                .map_err(library("resampler"))?;
            self.output.extend(self.resampled.iter().take(written * self.channels));
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<Option<Bytes>, TranscodeError> {
        let len = PACKET_SAMPLES * self.channels;
        if self.output.len() < len {
            return Ok(None);
        }
        let samples: Vec<f32> = self.output.drain(..len).collect();
        let packet =
            self.encoder.encode_vec_float(&samples, PACKET_BYTES_MAX).map_err(library("Opus encoder"))?;
        Ok(Some(packet.into()))
    }

    /// Samples at 48 kHz that have come in and not gone out.
    fn pending_samples(&self) -> f64 {
        let ratio = f64::from(RATE_HZ) / f64::from(self.rate_hz);
        let frames =
            |queue: &VecDeque<f32>| f64::from(u32::try_from(queue.len() / self.channels).unwrap_or(u32::MAX));
        frames(&self.input) * ratio + frames(&self.output)
    }

    /// Samples at 48 kHz by which resampler and encoder delay the sound.
    fn delay_samples(&mut self) -> f64 {
        let lookahead = self.encoder.get_lookahead().unwrap_or(LOOKAHEAD_SAMPLES);
        f64::from(u32::try_from(self.resampler.output_delay()).unwrap_or(0)) + f64::from(lookahead)
    }
}

fn library<E: std::fmt::Display>(part: &'static str) -> impl FnOnce(E) -> TranscodeError {
    move |error| TranscodeError::Library { part, reason: error.to_string() }
}
