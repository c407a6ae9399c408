//! One publisher's messages into frames of the hub.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Publisher, Superseded};
use media::flv::{AudioTag, TagError, VideoTag};
use media::h264::{AvcConfig, H264Error, NalKind, avcc};
use media::{AudioFrame, Frame, MediaTime, Track, Tracks, VideoConfig, VideoFrame};
use rtmp::MediaKind;
use thiserror::Error;

use crate::metrics::Metrics;
use crate::reorder::{Picture, Policy, Reorder};
use crate::sound::Sound;
use crate::timeline::Timeline;
use crate::transcode::Redundancy;

/// A publisher that has sent only one kind of media for this long has no other.
const SETTLE: Duration = Duration::from_millis(1000);
const B_FRAMES_DROPPED: &str = "The app sends B-frames, which browsers cannot show live. Pictures are left out to cure \
    it, so motion is less smooth. Turn B-frames off in the app (B-frames 0, or tune zerolatency).";
const B_FRAMES_KEYFRAMES: &str = "The app sends B-frames that others depend on (B-pyramid), which browsers cannot show \
    live. Only keyframes are shown. Turn B-frames off in the app (B-frames 0, or profile Baseline).";

/// Why a publisher cannot go on.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Somebody else publishes now.
    #[error(transparent)]
    Superseded(#[from] Superseded),
    /// What it sends cannot be shown. The text is for the teacher.
    #[error("{0}")]
    Unusable(String),
}

/// One publisher.
pub struct Publication {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    timeline: Timeline,
    started: Option<Instant>,
    tracks: Tracks,
    is_announced: bool,
    reorder: Reorder,
    policy: Policy,
    length_size: usize,
    sps: Option<Bytes>,
    pps: Vec<Bytes>,
    /// In force since the last keyframe.
    config: Option<Arc<VideoConfig>>,
    /// To come into force with the next keyframe.
    next_config: Option<Arc<VideoConfig>>,
    sound: Sound,
}

impl Publication {
    /// For somebody who may publish.
    pub fn new(publisher: Publisher, redundancy: Redundancy, metrics: Metrics) -> Self {
        let publisher = Arc::new(publisher);
        Self {
            timeline: Timeline::new(publisher.resume_after()),
            sound: Sound::new(Arc::clone(&publisher), redundancy, metrics.clone()),
            publisher,
            metrics,
            started: None,
            tracks: Tracks::default(),
            is_announced: false,
            reorder: Reorder::default(),
            policy: Policy::All,
            length_size: 4,
            sps: None,
            pps: Vec::new(),
            config: None,
            next_config: None,
        }
    }

    /// Takes one message.
    pub fn on_media(
        &mut self,
        now: Instant,
        kind: MediaKind,
        timestamp_ms: u32,
        body: Bytes,
    ) -> Result<(), PublishError> {
        let elapsed = now.saturating_duration_since(self.publisher.origin());
        let media_now = MediaTime::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX));
        match kind {
            MediaKind::Video => match VideoTag::parse(body) {
                Ok(VideoTag::Config(record)) => self.on_avc_config(&record)?,
                Ok(VideoTag::Frame { composition_ms, data }) => {
                    let time = self.timeline.unroll(Track::Video, timestamp_ms, media_now);
                    self.on_picture(now, time, composition_ms, &data)?;
                }
                Ok(VideoTag::Nothing) => {}
                Err(error) => self.on_tag_error(&error)?,
            },
            MediaKind::Audio => match AudioTag::parse(body) {
                Ok(AudioTag::AacConfig(config)) => self.sound.on_config(&config)?,
                Ok(AudioTag::Aac(frame)) => {
                    let time = self.timeline.unroll(Track::Audio, timestamp_ms, media_now);
                    self.sound.on_aac(now, time, frame);
                }
                Ok(AudioTag::Opus(packet)) => {
                    let time = self.timeline.unroll(Track::Audio, timestamp_ms, media_now);
                    self.sound.on_opus(now, time, &packet)?;
                }
                Ok(AudioTag::Nothing) => {}
                Err(error) => self.on_tag_error(&error)?,
            },
        }
        self.settle(now)
    }

    /// A single damaged message is counted; a codec that nobody can play ends the publication.
    fn on_tag_error(&mut self, error: &TagError) -> Result<(), PublishError> {
        if let TagError::Unsupported { .. } = error {
            self.publisher.set_problem("codec_unsupported", Some(error.to_string()))?;
            return Err(PublishError::Unusable(error.to_string()));
        }
        self.metrics.damaged.inc();
        tracing::debug!(%error, "a media message was skipped");
        Ok(())
    }

    fn on_h264_error(&mut self, error: &H264Error) -> Result<(), PublishError> {
        if let H264Error::Profile(_) = error {
            self.publisher.set_problem("profile_unsupported", Some(error.to_string()))?;
            return Err(PublishError::Unusable(error.to_string()));
        }
        self.metrics.damaged.inc();
        tracing::debug!(%error, "a picture or its configuration was skipped");
        Ok(())
    }

    fn on_avc_config(&mut self, record: &Bytes) -> Result<(), PublishError> {
        match AvcConfig::parse(record) {
            Ok(config) => {
                self.length_size = config.length_size;
                let sps = config.sps.into_iter().next();
                self.on_parameter_sets(sps, config.pps)
            }
            Err(error) => self.on_h264_error(&error),
        }
    }

    /// Sets that have changed come into force with the next keyframe: the pictures until then are made with the old.
    fn on_parameter_sets(&mut self, sps: Option<Bytes>, pps: Vec<Bytes>) -> Result<(), PublishError> {
        self.sps = sps.or(self.sps.take());
        if !pps.is_empty() {
            self.pps = pps;
        }
        let (Some(sps), false) = (&self.sps, self.pps.is_empty()) else { return Ok(()) };
        match VideoConfig::parse(sps, &self.pps) {
            Ok(config) => {
                let is_known = self.config.as_deref() == Some(&config);
                self.next_config = (!is_known).then(|| Arc::new(config));
                Ok(())
            }
            Err(error) => self.on_h264_error(&error),
        }
    }

    fn on_picture(
        &mut self,
        now: Instant,
        time: MediaTime,
        composition_ms: i32,
        data: &Bytes,
    ) -> Result<(), PublishError> {
        let nals = match avcc::split_access_unit(data, self.length_size) {
            Ok(nals) => nals,
            Err(error) => return self.on_h264_error(&error),
        };
        let of = |kind: NalKind| nals.iter().filter(move |nal| NalKind::of(nal) == Some(kind)).cloned();
        let sps = of(NalKind::Sps).next();
        let pps: Vec<Bytes> = of(NalKind::Pps).collect();
        if sps.is_some() || !pps.is_empty() {
            self.on_parameter_sets(sps, pps)?;
        }
        let is_slice = |nal: &&Bytes| NalKind::of(nal).is_some_and(NalKind::is_slice);
        if !nals.iter().any(|nal| is_slice(&nal)) {
            return Ok(());
        }
        let keyframe = nals.iter().filter(is_slice).all(|nal| NalKind::of(nal) == Some(NalKind::IdrSlice));
        if keyframe && let Some(config) = self.next_config.take() {
            self.config = Some(config);
        }
        // Nothing can be shown before the first keyframe with its parameter sets.
        let Some(config) = self.config.clone() else { return Ok(()) };
        if self.tracks.video.is_none() && !keyframe {
            return Ok(());
        }
        let display_ms = time.as_millis().saturating_add(i64::from(composition_ms));
        let slices = nals.iter().filter(is_slice).map(|nal| &nal[..]);
        let is_admitted = self.reorder.admit(Picture::new(keyframe, display_ms, slices));
        self.on_policy()?;
        if !is_admitted {
            self.metrics.reordered.inc();
            return Ok(());
        }
        if keyframe && self.tracks.video.as_ref() != Some(&config) {
            self.tracks.video = Some(Arc::clone(&config));
            if self.is_announced {
                self.publisher.set_tracks(&self.tracks)?;
            }
        }
        let kept = |nal: &&Bytes| {
            !matches!(NalKind::of(nal), Some(NalKind::Sps | NalKind::Pps | NalKind::Dispensable) | None)
        };
        let nals = nals.iter().filter(kept).cloned().collect();
        self.started.get_or_insert(now);
        self.metrics.frames.inc();
        self.publisher.push(Frame::Video(VideoFrame { time, keyframe, config, nals, arrival: now }))?;
        Ok(())
    }

    fn on_policy(&mut self) -> Result<(), PublishError> {
        let policy = self.reorder.policy();
        if policy == self.policy {
            return Ok(());
        }
        self.policy = policy;
        tracing::info!(?policy, "how pictures are passed on has changed");
        let text = |wanted: Policy, text: &str| (policy == wanted).then(|| text.to_owned());
        self.publisher.set_problem("b_frames_dropped", text(Policy::References, B_FRAMES_DROPPED))?;
        self.publisher.set_problem("b_frames_keyframes_only", text(Policy::Keyframes, B_FRAMES_KEYFRAMES))?;
        Ok(())
    }

    /// Says which tracks there are: at once when both have been seen, else when the other has not come in a while.
    fn settle(&mut self, now: Instant) -> Result<(), PublishError> {
        self.sound.check()?;
        if self.sound.has_begun() {
            self.started.get_or_insert(now);
        }
        let audio_appears = self.sound.has_begun() && !self.tracks.audio;
        self.tracks.audio |= audio_appears;
        let Some(started) = self.started else { return Ok(()) };
        let has_both = self.tracks.audio && self.tracks.video.is_some();
        let is_settled = has_both || now.saturating_duration_since(started) >= SETTLE;
        if is_settled && (!self.is_announced || audio_appears) {
            self.is_announced = true;
            tracing::info!(
                has_video = self.tracks.video.is_some(),
                has_audio = self.tracks.audio,
                "the publisher's tracks are known"
            );
            self.publisher.set_tracks(&self.tracks)?;
        }
        Ok(())
    }
}

/// One packet of sound for the hub.
pub(crate) fn audio_frame(time: MediaTime, packet: Bytes, arrival: Instant) -> Frame {
    Frame::Audio(AudioFrame { time, packet, arrival })
}
