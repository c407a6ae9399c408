//! One publisher's messages into frames of the hub.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Publisher, Superseded};
use media::flv::{AudioTag, TagError, VideoTag};
use media::{Frame, MediaTime, Track, Tracks, VideoFrame};
use rtmp::MediaKind;
use thiserror::Error;

use crate::audio::Audio;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pool::Handle;
use crate::timeline::Timeline;
use crate::transcode::Redundancy;
use crate::video::{Unit, Video};

/// A publisher that has sent only one kind of media for this long has no other.
const SETTLE: Duration = Duration::from_millis(1000);

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
    /// The app has said what its pictures will be like.
    is_video_announced: bool,
    video: Video,
    audio: Audio,
    health: Health,
    /// Why it ended stands in the stream's status for whoever looks for the lesson.
    is_refused: bool,
}

/// What an app does wrong it does no longer.
impl Drop for Publication {
    fn drop(&mut self) {
        if !self.is_refused {
            // Who has taken over has problems of his own.
            let _ = self.publisher.clear_problems();
        }
    }
}

impl Publication {
    /// For somebody who may publish. Its sound is transcoded by the pool, unless it is Opus.
    pub fn new(publisher: Publisher, pool: Handle, redundancy: Redundancy, metrics: Metrics) -> Self {
        let publisher = Arc::new(publisher);
        Self {
            timeline: Timeline::new(publisher.resume_after()),
            video: Video::new(Arc::clone(&publisher), metrics.clone()),
            audio: Audio::new(Arc::clone(&publisher), pool, redundancy, metrics.clone()),
            publisher,
            metrics,
            started: None,
            tracks: Tracks::default(),
            is_announced: false,
            is_video_announced: false,
            health: Health::default(),
            is_refused: false,
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
        let taken = self.take(now, kind, timestamp_ms, body);
        self.is_refused |= matches!(taken, Err(PublishError::Unusable(_)));
        taken
    }

    /// Time has passed, and perhaps nothing has come.
    pub fn on_timeout(&mut self, now: Instant) -> Result<(), Superseded> {
        self.settle(now)
    }

    /// Its app says that the lesson is over.
    pub(crate) fn end(self) {
        // Who has taken over goes on.
        let _ = self.publisher.end();
    }

    /// It is cut off: the teacher reads why.
    pub(crate) fn refuse(mut self, text: String) {
        let _ = self.publisher.clear_problems();
        self.is_refused = self.publisher.set_problem("cut_off", Some(text)).is_ok();
    }

    fn take(
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
                Ok(VideoTag::Config(record)) => {
                    self.is_video_announced = true;
                    self.video.on_config(&record)?;
                }
                Ok(VideoTag::Frame { composition_ms, data }) => {
                    let time = self.unroll(Track::Video, timestamp_ms, (now, media_now));
                    match self.video.on_access_unit(now, time, composition_ms, &data)? {
                        Unit::Frame(frame) => self.on_video_frame(frame)?,
                        Unit::LeftOut => self.health.on_usable(now),
                        Unit::Damaged => self.health.on_damaged(now),
                        Unit::Nothing => {}
                    }
                }
                Ok(VideoTag::Nothing) => {}
                Err(error @ TagError::Unsupported { .. }) => {
                    self.publisher.set_problem("codec_unsupported", Some(error.to_string()))?;
                    return Err(PublishError::Unusable(error.to_string()));
                }
                Err(error) => {
                    self.health.on_picture(now);
                    if let TagError::Truncated(_) = error {
                        self.health.on_damaged(now);
                        self.video.on_damaged();
                    }
                    self.on_damaged(&error);
                }
            },
            MediaKind::Audio => match AudioTag::parse(body) {
                Ok(AudioTag::AacConfig(config)) => self.audio.on_config(now, &config)?,
                Ok(AudioTag::Aac(frame)) => {
                    let time = self.unroll(Track::Audio, timestamp_ms, (now, media_now));
                    self.audio.on_aac(now, time, frame)?;
                }
                Ok(AudioTag::OpusConfig { channels }) => self.audio.on_opus_config(now, channels)?,
                Ok(AudioTag::Opus(packet)) => {
                    let time = self.unroll(Track::Audio, timestamp_ms, (now, media_now));
                    self.audio.on_opus(now, time, &packet)?;
                }
                Ok(AudioTag::Coded(codec, frame)) => {
                    let time = self.unroll(Track::Audio, timestamp_ms, (now, media_now));
                    self.audio.on_coded(now, time, codec, frame)?;
                }
                Ok(AudioTag::Nothing) => {}
                Err(error @ TagError::Unsupported { .. }) => self.audio.refuse(now, error.to_string())?,
                Err(error) => self.on_damaged(&error),
            },
        }
        self.audio.check(now)?;
        self.refuse_unplayable(now)?;
        Ok(self.settle(now)?)
    }

    fn on_damaged(&self, error: &TagError) {
        self.metrics.damaged.inc();
        tracing::debug!(%error, "media message skipped");
    }

    fn unroll(
        &mut self,
        track: Track,
        timestamp_ms: u32,
        (now, media_now): (Instant, MediaTime),
    ) -> MediaTime {
        let steps_before = self.timeline.steps();
        let time = self.timeline.unroll(track, timestamp_ms, media_now);
        if self.timeline.steps() != steps_before {
            self.metrics.clock_steps.inc();
            self.health.on_step(now);
            tracing::debug!(?track, timestamp_ms, "publisher's clock stepped");
        }
        self.health.on_message(now, track, time, time - media_now);
        time
    }

    fn on_video_frame(&mut self, frame: VideoFrame) -> Result<(), PublishError> {
        self.health.on_usable(frame.arrival);
        if frame.keyframe || frame.recovery_point {
            self.health.on_entry(frame.time);
        }
        if frame.keyframe && self.tracks.video.as_ref() != Some(&frame.config) {
            self.health.on_config(&frame.config);
            self.tracks.video = Some(Arc::clone(&frame.config));
            if self.is_announced {
                self.publisher.set_tracks(&self.tracks)?;
            }
        }
        self.started.get_or_insert(frame.arrival);
        self.publisher.push(Frame::Video(frame))?;
        Ok(())
    }

    /// Sound that cannot be played ends a publication if nothing else comes or is announced.
    fn refuse_unplayable(&self, now: Instant) -> Result<(), PublishError> {
        if let Some(refused) = self.audio.refused()
            && self.tracks.video.is_none()
            && !self.is_video_announced
            && self.health.video().is_none_or(|last| now.saturating_duration_since(last) >= SETTLE)
            && now.saturating_duration_since(refused.since) >= SETTLE
        {
            return Err(PublishError::Unusable(refused.text.clone()));
        }
        Ok(())
    }

    /// Says which tracks there are: at once when both have been seen, else when the other has not come in a while. Sound
    /// that cannot be played is none.
    fn settle(&mut self, now: Instant) -> Result<(), Superseded> {
        let has_audio = self.audio.is_playing();
        if has_audio {
            self.started.get_or_insert(now);
        }
        let has_changed = has_audio != self.tracks.audio;
        self.tracks.audio = has_audio;
        for (code, text) in self.health.changes(now, self.audio.sound()) {
            self.publisher.set_problem(code, text)?;
        }
        let Some(started) = self.started else { return Ok(()) };
        let has_both = self.tracks.audio && self.tracks.video.is_some();
        let has_all = has_both || self.audio.refused().is_some();
        let is_settled = has_all || now.saturating_duration_since(started) >= SETTLE;
        if is_settled && (!self.is_announced || has_changed) {
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
