//! What is wrong with how a publisher sends: decided here, and told to the teacher in words.
//!
//! A machine without a clock. It is fed with what comes and when, and asked a few times a second; each problem shows in
//! about five seconds and goes away when it is cured. What cannot be played at all is refused where it is read.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::{MediaTime, Track, VideoConfig};

/// How often it is asked at most.
const ASKED: Duration = Duration::from_millis(250);
/// A track that has not come for this long while the other has is gone.
const GONE: Duration = Duration::from_secs(3);
/// Slides may come as rarely as this; twice the time of the last without another it is gone.
const SLIDE_MAX: Duration = Duration::from_secs(5);
/// When pictures have come over so long a time and none could be shown, it is not for a keyframe that is on its way.
const UNUSABLE: Duration = Duration::from_millis(3_500);
/// Two damaged pictures within so long are told of for as long again.
const DAMAGE_SHOWN: Duration = Duration::from_secs(10);
/// Keyframes may be this far apart: so long a viewer waits who lost too much.
const KEYFRAMES_MAX: MediaTime = MediaTime::from_millis(4_000);
/// Without a picture for so long, the time between two keyframes says nothing.
const PAUSE: MediaTime = MediaTime::from_millis(1_000);
/// How many seconds the speed is told from, and by how many percent it may be off.
const SPEED_SECONDS: usize = 4;
const SPEED_TOLERANCE_PERCENT: i64 = 10;
/// Nothing is said of speed and lumps before this: connections begin with what has waited in the app.
const SETTLING: Duration = Duration::from_secs(1);
/// Pictures that come so much later than others within a second come in lumps, if they do so in three seconds of four.
const LUMP: MediaTime = MediaTime::from_millis(300);
const LUMPY_SECONDS: usize = 3;
/// A clock that stepped is told of for this long.
const STEP_SHOWN: Duration = Duration::from_secs(10);
/// Frames that cannot be decoded beyond those that can, of AAC a quarter of a second of them: more than a damaged message costs.
const UNDECODABLE_FRAMES: u32 = 12;
/// How often the words of a problem that lasts follow its figures.
const REWORDED: Duration = SECOND;
/// Digital silence for so long is a microphone that is switched off.
const SILENT: Duration = Duration::from_secs(4);

const SECOND: Duration = Duration::from_secs(1);

/// One problem: a name for programs, and how the teacher is told while it lasts.
pub(crate) type Change = (&'static str, Option<String>);

/// What is known of the sound beyond its arrival.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sound {
    /// Frames that could not be decoded, beyond those that could.
    pub(crate) undecodable: u32,
    /// How long it has been digitally silent.
    pub(crate) silent: Duration,
    /// It is known not to be playable, and that was told.
    pub(crate) is_refused: bool,
}

/// How one publisher does.
#[derive(Debug, Default)]
pub(crate) struct Health {
    asked: Option<Instant>,
    began: Option<Instant>,
    video: Option<Instant>,
    /// When the last picture came that could be shown, or the first of all.
    usable: Option<Instant>,
    /// When the last picture came that was damaged, and until when that is told.
    damaged: Option<Instant>,
    damage_shown: Option<Instant>,
    /// From the last picture but one to the last.
    slide: Duration,
    audio: Option<Instant>,
    stepped: Option<Instant>,
    leads: Leads,
    sound_leads: Leads,
    keyframes: Keyframes,
    /// What is wrong with the size of the picture; said once for each configuration.
    size: Option<String>,
    told: Vec<(&'static str, String)>,
    /// When words were last changed.
    reworded: Option<Instant>,
}

/// Where decoders can begin.
#[derive(Debug, Default)]
struct Keyframes {
    last: Option<MediaTime>,
    newest: MediaTime,
    /// From the last but one to the last.
    distance: MediaTime,
}

/// How far media was ahead of its arrival, second by second. The most in a second is of what came without delay.
#[derive(Debug, Default)]
struct Leads(VecDeque<Lead>);

#[derive(Clone, Copy, Debug)]
struct Lead {
    began: Instant,
    least: MediaTime,
    most: MediaTime,
}

impl Health {
    /// A message of a track has come, of that time. `lead` is how far its time is ahead of its arrival.
    pub(crate) fn on_message(&mut self, now: Instant, track: Track, time: MediaTime, lead: MediaTime) {
        let began = *self.began.get_or_insert(now);
        // The picture tells best; without one the sound does.
        let has_video = self.has_video(now);
        let is_telling = track == Track::Video || !has_video;
        if track == Track::Video && !has_video {
            self.leads = Leads::default();
        }
        match track {
            Track::Video => {
                self.on_picture(now);
                self.keyframes.on_time(time);
            }
            Track::Audio => self.audio = Some(now),
        }
        if now < began + SETTLING {
            return;
        }
        if is_telling {
            self.leads.on_message(now, lead);
        }
        if track == Track::Audio {
            self.sound_leads.on_message(now, lead);
        }
    }

    /// A message of pictures has come, whatever is in it.
    pub(crate) fn on_picture(&mut self, now: Instant) {
        self.began.get_or_insert(now);
        if !self.has_video(now) {
            self.usable = Some(now);
        }
        let last = self.video.replace(now);
        // After a single picture nothing is known of its rhythm.
        self.slide = last.map_or(SLIDE_MAX, |last| now.saturating_duration_since(last).min(SLIDE_MAX));
    }

    /// A picture has come that can be shown.
    pub(crate) fn on_usable(&mut self, now: Instant) {
        self.usable = Some(now);
    }

    /// A picture has come that cannot be read.
    pub(crate) fn on_damaged(&mut self, now: Instant) {
        let last = self.damaged.replace(now);
        if last.is_some_and(|last| now < last + DAMAGE_SHOWN) {
            self.damage_shown = Some(now + DAMAGE_SHOWN);
        }
    }

    /// A picture that decoders can begin at was passed on.
    pub(crate) fn on_entry(&mut self, time: MediaTime) {
        let last = self.keyframes.last.replace(time);
        self.keyframes.distance = last.map_or(MediaTime::ZERO, |last| time - last);
    }

    /// Whether pictures come, in their own rhythm.
    fn has_video(&self, now: Instant) -> bool {
        self.video.is_some_and(|last| now < last + GONE.max(2 * self.slide))
    }

    /// When the last message of pictures came.
    pub(crate) fn video(&self) -> Option<Instant> {
        self.video
    }

    /// The publisher's clock has stepped.
    pub(crate) fn on_step(&mut self, now: Instant) {
        self.stepped = Some(now);
        // What came before was counted by another clock.
        (self.leads, self.sound_leads) = Default::default();
    }

    /// Pictures have another configuration from now on.
    pub(crate) fn on_config(&mut self, config: &VideoConfig) {
        let [_, _, level] = config.profile_level_id;
        let macroblocks = config.width.div_ceil(16).saturating_mul(config.height.div_ceil(16));
        self.size = level_size_max(level).filter(|max| macroblocks > *max).map(|_| {
            format!(
                "The picture of {}x{} is larger than its H.264 level {}.{} allows, and some devices do not show it. \
                 Choose a smaller picture or a higher level in the app.",
                config.width,
                config.height,
                level / 10,
                level % 10
            )
        });
    }

    /// What has changed since it was asked last.
    pub(crate) fn changes(&mut self, now: Instant, sound: Sound) -> Vec<Change> {
        if self.asked.is_some_and(|asked| now < asked + ASKED) {
            return Vec::new();
        }
        self.asked = Some(now);
        let found = self.find(now, sound);
        let may_reword = self.reworded.is_none_or(|reworded| now >= reworded + REWORDED);
        let mut told = std::mem::take(&mut self.told);
        let mut changes: Vec<Change> = Vec::new();
        told.retain(|(code, _)| {
            let lasts = found.iter().any(|(found, _)| found == code);
            if !lasts {
                changes.push((code, None));
            }
            lasts
        });
        for (code, text) in found {
            match told.iter_mut().find(|(told, _)| *told == code) {
                Some((_, said)) if *said == text || !may_reword => continue,
                Some((_, said)) => said.clone_from(&text),
                None => told.push((code, text.clone())),
            }
            self.reworded = Some(now);
            changes.push((code, Some(text)));
        }
        self.told = told;
        changes
    }

    fn find(&self, now: Instant, sound: Sound) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut say = |code, text: &str| found.push((code, text.to_owned()));
        let is_here = |last: &Instant| now < *last + GONE;
        let has_video = self.has_video(now);
        let has_audio = self.audio.as_ref().is_some_and(is_here);
        if self.began.is_some() && !has_video && !has_audio {
            say(
                "nothing_comes",
                "Nothing comes from the app any more. Has it lost its network, or is it in the background?",
            );
            return found;
        }
        if self.video.is_some() && !has_video && has_audio {
            say(
                "picture_gone",
                "No picture comes any more. Is the camera switched off, or the app in the background?",
            );
        }
        let is_long = |(usable, last): (Instant, Instant)| last >= usable + UNUSABLE;
        let is_unusable = has_video && self.usable.zip(self.video).is_some_and(is_long);
        if is_unusable {
            say(
                "picture_unusable",
                "No picture of the app can be shown: there is no keyframe among them, or they are damaged. Choose H.264 with a \
                 keyframe every 2 s.",
            );
        } else if self.damage_shown.is_some_and(|until| now < until) {
            say(
                "picture_damaged",
                "Pictures of the app are damaged: what follows them is left out up to the next keyframe. Start the stream again, \
                 with a lower bit rate or another encoder if it goes on.",
            );
        }
        if sound.is_refused {
            // That was told, and is why.
        } else if self.audio.is_some() && !has_audio && has_video {
            say("sound_gone", "No sound comes any more. Has the app lost the microphone?");
        } else if sound.undecodable >= UNDECODABLE_FRAMES {
            say(
                "sound_undecodable",
                "The sound that the app sends cannot be decoded, so nothing is heard. Choose AAC-LC, mono or stereo.",
            );
        } else if sound.silent >= SILENT {
            say("sound_silent", "The sound is silent. Is the microphone switched off in the app?");
        }
        if self.stepped.is_some_and(|stepped| now < stepped + STEP_SHOWN) {
            say(
                "timestamps_jump",
                "The app's timestamps jump, so that picture or sound may skip. Start the stream again if it goes on.",
            );
        }
        if let Some(percent) = self.leads.speed_percent() {
            let cure = if percent > 100 {
                "Send it in real time, with ffmpeg by -re."
            } else {
                "The app's network or encoder is too slow: choose a lower bit rate."
            };
            found.push(("speed", format!("The stream comes at {percent} % of its speed. {cure}")));
        } else if self.leads.is_lumpy() || has_audio && self.sound_leads.is_lumpy() {
            let text = "The stream comes in lumps, so that it stutters. The app or its network holds it back: choose a lower bit \
                 rate, a constant frame rate or another network.";
            found.push(("lumps", text.to_owned()));
        }
        if let Some(distance) = self.keyframes.too_far().filter(|_| has_video && !is_unusable) {
            let text = format!(
                "Keyframes come {:.0} s apart or more: so long nothing moves for whoever joins, or has lost much. Choose a keyframe \
                 interval of 2 s.",
                Duration::from_micros(u64::try_from(distance.as_micros()).unwrap_or(0)).as_secs_f64()
            );
            found.push(("keyframes_rare", text));
        }
        found.extend(self.size.iter().map(|text| ("size_beyond_level", text.clone())));
        found
    }
}

impl Keyframes {
    /// A message of pictures has come, whether it is passed on or not.
    fn on_time(&mut self, time: MediaTime) {
        if time - self.newest > PAUSE {
            // Another rhythm may begin.
            self.last = None;
        }
        self.newest = time;
    }

    fn too_far(&self) -> Option<MediaTime> {
        let distance = self.distance.max(self.newest - self.last?);
        (distance > KEYFRAMES_MAX).then_some(distance)
    }
}

impl Leads {
    fn on_message(&mut self, now: Instant, lead: MediaTime) {
        if let Some(current) = self.0.back_mut().filter(|current| now < current.began + SECOND) {
            current.least = current.least.min(lead);
            current.most = current.most.max(lead);
            return;
        }
        // What was before a long silence tells nothing.
        if self.0.back().is_some_and(|last| now >= last.began + GONE + SECOND) {
            self.0.clear();
        }
        // In a second without anything what comes now was held back, if it is late.
        while let Some(last) = self.0.back().copied().filter(|last| now >= last.began + 2 * SECOND) {
            self.push(Lead { began: last.began + SECOND, least: lead.min(last.most), most: last.most });
        }
        self.push(Lead { began: now, least: lead, most: lead });
    }

    fn push(&mut self, lead: Lead) {
        self.0.push_back(lead);
        if self.0.len() > SPEED_SECONDS + 1 {
            self.0.pop_front();
        }
    }

    /// The seconds that are over, if they are enough.
    fn whole(&self) -> Option<impl Iterator<Item = Lead>> {
        (self.0.len() > SPEED_SECONDS).then(|| self.0.iter().copied().take(SPEED_SECONDS))
    }

    /// In percent of real time, if that is not what it should be.
    fn speed_percent(&self) -> Option<i64> {
        let first = self.whole()?.next()?;
        let last = self.whole()?.last()?;
        let took = last.began.saturating_duration_since(first.began).as_micros();
        let took = i64::try_from(took).ok().filter(|took| *took > 0)?;
        let gained = (last.most - first.most).as_micros();
        let off = gained.saturating_mul(100) / took;
        (off.abs() > SPEED_TOLERANCE_PERCENT).then_some(100_i64.saturating_add(off).max(0))
    }

    fn is_lumpy(&self) -> bool {
        let lumpy = |seconds: &Lead| seconds.most - seconds.least > LUMP;
        self.whole().is_some_and(|whole| whole.filter(lumpy).count() >= LUMPY_SECONDS)
    }
}

/// Macroblocks of the largest picture of a level (ITU-T H.264, table A-1).
fn level_size_max(level: u8) -> Option<u32> {
    Some(match level {
        9 | 10 => 99,
        11..=13 | 20 => 396,
        21 => 792,
        22 | 30 => 1_620,
        31 => 3_600,
        32 => 5_120,
        40 | 41 => 8_192,
        42 => 8_704,
        50 => 22_080,
        51 | 52 => 36_864,
        60..=62 => 139_264,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
