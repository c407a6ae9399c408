//! The video of one publisher: access units into frames.
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use hub::Publisher;
use media::h264::{AvcConfig, H264Error, NalKind, SliceType, avcc, sei};
use media::{MediaTime, VideoConfig, VideoFrame};

use crate::metrics::Metrics;
use crate::publish::PublishError;
use crate::reorder::{Picture, Policy, Reorder};

/// Bytes of length in front of a NAL unit where no configuration says otherwise: what every encoder uses.
const LENGTH_SIZE_DEFAULT: usize = 4;
const B_FRAMES_DROPPED: &str = "The app sends B-frames, which browsers cannot show live. Pictures are left out to cure \
    it, so motion is less smooth. Turn B-frames off in the app (B-frames 0, or tune zerolatency); a file must be encoded again.";
const B_FRAMES_KEYFRAMES: &str = "The app sends B-frames that others depend on (B-pyramid), which browsers cannot show \
    live. Only keyframes are shown. Turn B-frames off in the app (B-frames 0, profile Baseline, or tune zerolatency; a file must be encoded again); in OBS, Settings, \
    Output: \"Enable Advanced Encoder Settings\", then bframes=0 keyint=60 in the encoder's custom settings.";

/// What an access unit becomes.
pub(crate) enum Unit {
    Frame(VideoFrame),
    /// It could be shown, and is left out because of B-frames.
    LeftOut,
    /// No slice, or none that a decoder could begin with.
    Nothing,
    /// It could not be read.
    Damaged,
}

/// The video of one publisher.
pub(crate) struct Video {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    reorder: Reorder,
    policy: Policy,
    length_size: usize,
    sps: Option<Bytes>,
    pps: Vec<Bytes>,
    /// In force since the last keyframe.
    config: Option<Arc<VideoConfig>>,
    /// To come into force with the next keyframe.
    next_config: Option<Arc<VideoConfig>>,
    /// A keyframe has been passed on, and nothing damaged came since that what follows may need.
    has_begun: bool,
    /// A keyframe has been passed on.
    has_shown: bool,
}

impl Video {
    pub(crate) fn new(publisher: Arc<Publisher>, metrics: Metrics) -> Self {
        Self {
            publisher,
            metrics,
            reorder: Reorder::default(),
            policy: Policy::All,
            length_size: LENGTH_SIZE_DEFAULT,
            sps: None,
            pps: Vec::new(),
            config: None,
            next_config: None,
            has_begun: false,
            has_shown: false,
        }
    }

    /// A picture was lost. Whoever went on would see what is missing smeared over what follows.
    pub(crate) fn on_damaged(&mut self) {
        self.has_begun = false;
    }

    pub(crate) fn on_config(&mut self, record: &Bytes) -> Result<(), PublishError> {
        match AvcConfig::parse(record) {
            Ok(config) => {
                self.length_size = config.length_size;
                let sps = config.sps.into_iter().next();
                self.on_parameter_sets(sps, config.pps)
            }
            Err(error) => self.on_error(&error),
        }
    }

    /// Takes one access unit.
    pub(crate) fn on_access_unit(
        &mut self,
        now: Instant,
        time: MediaTime,
        composition_ms: i32,
        data: &Bytes,
    ) -> Result<Unit, PublishError> {
        let nals = match avcc::split_access_unit(data, self.length_size) {
            Ok(nals) => nals,
            Err(error) => {
                self.on_damaged();
                return self.on_error(&error).map(|()| Unit::Damaged);
            }
        };
        let of = |kind: NalKind| nals.iter().filter(move |nal| NalKind::of(nal) == Some(kind)).cloned();
        let sps = of(NalKind::Sps).next();
        let pps: Vec<Bytes> = of(NalKind::Pps).collect();
        if sps.is_some() || !pps.is_empty() {
            self.on_parameter_sets(sps, pps)?;
        }
        let is_slice = |nal: &&Bytes| NalKind::of(nal).is_some_and(NalKind::is_slice);
        if !nals.iter().any(|nal| is_slice(&nal)) {
            return Ok(Unit::Nothing);
        }
        let keyframe = nals.iter().filter(is_slice).all(|nal| NalKind::of(nal) == Some(NalKind::IdrSlice));
        if keyframe && let Some(config) = self.next_config.take() {
            self.config = Some(config);
        }
        let recovery_point = !keyframe && is_recovery_point(&nals);
        // Nothing can be shown before the first keyframe with its parameter sets.
        let begins = keyframe || recovery_point && self.has_shown;
        let Some(config) = self.config.clone().filter(|_| self.has_begun || begins) else {
            return Ok(Unit::Nothing);
        };
        let display_ms = time.as_millis().saturating_add(i64::from(composition_ms));
        let slices = nals.iter().filter(is_slice).map(|nal| &nal[..]);
        let is_admitted = self.reorder.admit(Picture::new(keyframe, display_ms, slices));
        self.on_policy()?;
        if !is_admitted {
            self.metrics.reordered.inc();
            return Ok(Unit::LeftOut);
        }
        (self.has_begun, self.has_shown) = (true, true);
        self.metrics.frames.inc();
        let nals = without_ballast(&nals, data.len());
        Ok(Unit::Frame(VideoFrame { time, keyframe, recovery_point, config, nals, arrival: now }))
    }

    /// Sets that have changed come into force with the next keyframe: the frames until then are made with the old.
    fn on_parameter_sets(&mut self, sps: Option<Bytes>, pps: Vec<Bytes>) -> Result<(), PublishError> {
        // Copied: a slice would keep the whole message that it came in.
        self.sps = sps.map(|sps| Bytes::copy_from_slice(&sps)).or(self.sps.take());
        if !pps.is_empty() {
            self.pps = pps.iter().map(|pps| Bytes::copy_from_slice(pps)).collect();
        }
        let (Some(sps), false) = (&self.sps, self.pps.is_empty()) else { return Ok(()) };
        match VideoConfig::parse(sps, &self.pps) {
            Ok(config) => {
                let is_known = self.config.as_deref() == Some(&config);
                self.next_config = (!is_known).then(|| Arc::new(config));
                Ok(())
            }
            Err(error) => self.on_error(&error),
        }
    }

    fn on_policy(&mut self) -> Result<(), PublishError> {
        let policy = self.reorder.policy();
        if policy == self.policy {
            return Ok(());
        }
        self.policy = policy;
        tracing::info!(?policy, "B-frame policy changed");
        let text = |wanted: Policy, text: &str| (policy == wanted).then(|| text.to_owned());
        self.publisher.set_problem("b_frames_dropped", text(Policy::References, B_FRAMES_DROPPED))?;
        self.publisher.set_problem("b_frames_keyframes_only", text(Policy::Keyframes, B_FRAMES_KEYFRAMES))?;
        Ok(())
    }

    /// A single damaged access unit is counted; a profile that no browser decodes ends the publication.
    fn on_error(&self, error: &H264Error) -> Result<(), PublishError> {
        match error {
            H264Error::Profile(_) => {
                self.publisher.set_problem("profile_unsupported", Some(error.to_string()))?;
                return Err(PublishError::Unusable(error.to_string()));
            }
            H264Error::TooManyNals(_) => self.metrics.nals_exceeded.inc(),
            H264Error::Damaged(_) => self.metrics.damaged.inc(),
        }
        tracing::debug!(%error, "access unit or configuration skipped");
        Ok(())
    }
}

/// Whether a decoder recovers here from lost frames: the encoder says so, or nothing in the picture needs another.
fn is_recovery_point(nals: &[Bytes]) -> bool {
    let mut slices = nals.iter().filter(|nal| NalKind::of(nal).is_some_and(NalKind::is_slice));
    nals.iter().any(|nal| sei::recovery_frames(nal).is_some())
        || slices.all(|slice| SliceType::parse(slice) == Some(SliceType::I))
}

/// The NAL units that viewers get. Slices keep the whole message in memory, so where most of it is something else - filler,
/// supplemental information - they are copied: the bounds of caches count slices.
fn without_ballast(nals: &[Bytes], message_len: usize) -> Arc<[Bytes]> {
    let is_kept = |nal: &&Bytes| {
        !matches!(NalKind::of(nal), Some(NalKind::Sps | NalKind::Pps | NalKind::Dispensable) | None)
    };
    let kept = nals.iter().filter(is_kept);
    let kept_len = kept.clone().map(Bytes::len).fold(0, usize::saturating_add);
    if kept_len >= message_len / 2 {
        return kept.cloned().collect();
    }
    let mut copy = BytesMut::with_capacity(kept_len);
    kept.map(|nal| {
        copy.extend_from_slice(nal);
        copy.split().freeze()
    })
    .collect()
}
