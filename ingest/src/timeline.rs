//! From a publisher's 32-bit milliseconds to the stream's media time: here and nowhere else.
//!
//! Encoders count both tracks from one origin, so both share one mapping, and their offset to each other is the
//! publisher's. A count may step: an app restarts its clock, a phone corrects it, ffmpeg falls from 2^31 to 0. A message
//! that cannot be of the count before begins a new mapping, at the time at which it was expected; the other track stays
//! with the old mapping for the messages that were under way, and joins the new one with its own first message after the
//! step.
use media::{MediaTime, Track};

/// A track that falls behind itself by more than this, or runs ahead of every message so far by more, has a clock that
/// stepped. Less is jitter of an encoder's timestamps, and as a gap in the sound it would last no longer than this.
const STEP_MIN: MediaTime = MediaTime::from_millis(150);
/// For so long after its first message nothing is known of what arrives without delay: a first keyframe is larger than what follows,
/// and apps begin with what has waited in them. Until then only more than [`SKEW_MAX`] is a step.
const SETTLING: MediaTime = MediaTime::from_millis(1000);
/// The most by which the first message of a track is behind the other track. More than this are two clocks.
const SKEW_MAX: MediaTime = MediaTime::from_millis(2000);
/// The longest distance of two messages of a track that is taken for its rhythm: ten frames a second.
const RHYTHM_MAX: MediaTime = MediaTime::from_millis(100);
/// The least distance of two frames of a track whose timestamps do not grow.
const DISTANCE_MIN: MediaTime = MediaTime::from_millis(1);

/// The clock of one publisher.
#[derive(Debug)]
pub struct Timeline {
    resume_after: MediaTime,
    clocks: [Option<Clock>; 2],
    /// The furthest that any message was ahead of its arrival: of what arrives without delay.
    lead_max: Option<MediaTime>,
    began: Option<MediaTime>,
    steps: u64,
}

/// The clock of one track.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The last timestamp, and what it maps to.
    timestamp_ms: u32,
    mapped: MediaTime,
    /// What was given out for it: never less than for the message before.
    latest: MediaTime,
    arrived: MediaTime,
    /// From one message to the next, as a rule.
    rhythm: MediaTime,
}

impl Clock {
    /// Where this clock's mapping puts a timestamp.
    fn map(&self, timestamp_ms: u32) -> MediaTime {
        let step_ms = timestamp_ms.wrapping_sub(self.timestamp_ms).cast_signed();
        self.mapped + MediaTime::from_millis(i64::from(step_ms))
    }
}

impl Timeline {
    /// The publishers before ended at `resume_after`.
    pub fn new(resume_after: MediaTime) -> Self {
        Self { resume_after, clocks: [None; 2], lead_max: None, began: None, steps: 0 }
    }

    /// How often the publisher's clock has stepped.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The media time of a message; of each track it only grows. `now` is this moment on the stream's timeline: where a
    /// count begins.
    pub fn unroll(&mut self, track: Track, timestamp_ms: u32, now: MediaTime) -> MediaTime {
        self.began.get_or_insert(now);
        let (own, other) = match track {
            Track::Video => (self.clocks[0], self.clocks[1]),
            Track::Audio => (self.clocks[1], self.clocks[0]),
        };
        let mapped = match own {
            Some(own) => self.continue_track(&own, other.as_ref(), timestamp_ms, now),
            None => self.begin_track(other.as_ref(), timestamp_ms, now),
        };
        let earliest = own.map_or(self.resume_after, |own| own.latest) + DISTANCE_MIN;
        let latest = mapped.max(earliest);
        let lead = mapped - now;
        self.lead_max = Some(self.lead_max.map_or(lead, |lead_max| lead_max.max(lead)));
        let rhythm = own.map_or(DISTANCE_MIN, |own| {
            let distance = mapped - own.mapped;
            if (DISTANCE_MIN..=RHYTHM_MAX).contains(&distance) { distance } else { own.rhythm }
        });
        let clock = Clock { timestamp_ms, mapped, latest, arrived: now, rhythm };
        match track {
            Track::Video => self.clocks[0] = Some(clock),
            Track::Audio => self.clocks[1] = Some(clock),
        }
        latest
    }

    /// The own mapping or that of the other track, whichever comes closer to what is expected; or a new one.
    fn continue_track(
        &mut self,
        own: &Clock,
        other: Option<&Clock>,
        timestamp_ms: u32,
        now: MediaTime,
    ) -> MediaTime {
        let expected = own.latest + own.rhythm;
        let is_possible =
            |mapped: &MediaTime| *mapped + STEP_MIN >= own.latest && !self.is_from_the_future(*mapped, now);
        let candidates = [Some(own), other].into_iter().flatten().map(|clock| clock.map(timestamp_ms));
        let closest =
            candidates.filter(is_possible).min_by_key(|mapped| (*mapped - expected).as_micros().abs());
        closest.unwrap_or_else(|| {
            self.steps = self.steps.saturating_add(1);
            // As late after the message before as it arrived, which is how long a pause was; in a burst, its rhythm.
            own.latest + own.rhythm.max(now - own.arrived)
        })
    }

    fn begin_track(&self, other: Option<&Clock>, timestamp_ms: u32, now: MediaTime) -> MediaTime {
        let beside = other.map(|other| (other.mapped, other.map(timestamp_ms)));
        match beside {
            Some((other, mapped)) if mapped + SKEW_MAX >= other && !self.is_from_the_future(mapped, now) => {
                mapped
            }
            _ => now.max(self.resume_after + DISTANCE_MIN),
        }
    }

    /// A pause lets timestamps jump by as much as the clock does, and a delay that ends by less. Beyond that nothing can
    /// arrive before it is made.
    fn is_from_the_future(&self, mapped: MediaTime, now: MediaTime) -> bool {
        let is_settling = self.began.is_none_or(|began| now < began + SETTLING);
        let rise_max = if is_settling { SKEW_MAX } else { STEP_MIN };
        self.lead_max.is_some_and(|lead_max| mapped - now > lead_max + rise_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Track::{Audio, Video};

    fn run(steps: &[(Track, u32)]) -> Vec<i64> {
        let mut timeline = Timeline::new(MediaTime::ZERO);
        let now = MediaTime::from_millis(5000);
        steps.iter().map(|(track, ms)| timeline.unroll(*track, *ms, now).as_millis()).collect()
    }

    #[test]
    fn tracks_share_one_origin_and_may_overlap() {
        assert_eq!(run(&[(Video, 100), (Audio, 90), (Audio, 113), (Video, 133)]), [5000, 4990, 5013, 5033]);
    }

    #[test]
    fn the_count_may_pass_2_to_the_32() {
        let before = u32::MAX - 9;
        assert_eq!(run(&[(Video, before), (Video, before.wrapping_add(33))]), [5000, 5033]);
    }

    #[test]
    fn a_count_that_begins_anew_goes_on_after_what_was_before() {
        let times = run(&[(Video, 1 << 31), (Video, (1 << 31) + 33), (Video, 0), (Video, 33)]);
        assert_eq!(times, [5000, 5033, 5066, 5099]);
    }

    #[test]
    fn the_first_pictures_of_a_slow_publisher_may_come_at_once() {
        let mut timeline = Timeline::new(MediaTime::ZERO);
        // Five a second, of which the first took as long to send as the next three were made in.
        let arrivals = [5000, 5010, 5020, 5030, 5200, 5400, 5600, 5800, 6000, 6200];
        let times: Vec<i64> = (0..)
            .zip(arrivals)
            .map(|(n, now)| timeline.unroll(Video, 200 * n, MediaTime::from_millis(now)).as_millis())
            .collect();
        assert_eq!(times, (0..10).map(|n| 5000 + 200 * n).collect::<Vec<_>>());
        assert_eq!(timeline.steps(), 0);
        timeline.unroll(Video, 2000 + 160_000, MediaTime::from_millis(6400));
        assert_eq!(timeline.steps(), 1);
    }

    #[test]
    fn equal_and_falling_timestamps_still_grow() {
        assert_eq!(run(&[(Video, 50), (Video, 50), (Video, 40)]), [5000, 5001, 5002]);
    }

    #[test]
    fn a_new_publisher_goes_on_after_the_one_before() {
        let mut timeline = Timeline::new(MediaTime::from_millis(9000));
        assert_eq!(timeline.unroll(Video, 7, MediaTime::from_millis(8000)).as_millis(), 9001);
        let before = timeline.unroll(Audio, 0, MediaTime::from_millis(8000));
        assert_eq!(before.as_millis(), 9001, "neither track goes back behind it");
    }

    /// A message of a publisher: made when, with which timestamp, and arrived when.
    #[derive(Clone, Copy, Debug)]
    struct Sent {
        track: Track,
        made_ms: i64,
        timestamp_ms: u32,
        arrived_ms: i64,
    }

    /// Thirty seconds of 30 frames and 43 AAC frames a second. `clock` says what the publisher's clock shows; `delay` how
    /// long a message is under way. They arrive in the order in which they were made.
    fn lesson(clock: impl Fn(i64) -> i64, delay: impl Fn(i64) -> i64) -> Vec<Sent> {
        let video = (0..900_i64).map(|index| (Video, index * 1000 / 30));
        let audio = (0..1292_i64).map(|index| (Audio, index * 1_024_000 / 44_100));
        let mut made: Vec<(Track, i64)> = video.chain(audio).collect();
        made.sort_by_key(|(_, made_ms)| *made_ms);
        let mut arrived_ms = 0;
        made.into_iter()
            .map(|(track, made_ms)| {
                arrived_ms = arrived_ms.max(made_ms + delay(made_ms));
                let low = clock(made_ms).rem_euclid(1 << 32);
                Sent { track, made_ms, timestamp_ms: u32::try_from(low).unwrap(), arrived_ms }
            })
            .collect()
    }

    /// What a viewer notices: the longest gap in the sound, how far the tracks drift from each other, and how far the
    /// timeline from the clock of the world.
    #[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    struct Noticed {
        audio_gap_ms: i64,
        skew_ms: i64,
        lag_ms: i64,
    }

    fn play(sent: &[Sent]) -> Noticed {
        let mut timeline = Timeline::new(MediaTime::ZERO);
        let mut latest = [i64::MIN; 2];
        let mut offset: [Option<i64>; 2] = [None; 2];
        let mut noticed = Noticed::default();
        for message in sent {
            let now = MediaTime::from_millis(message.arrived_ms + 1000);
            let time = timeline.unroll(message.track, message.timestamp_ms, now).as_millis();
            let at = usize::from(message.track == Audio);
            assert!(time > latest[at], "{message:?}: {time} after {}", latest[at]);
            if message.track == Audio && latest[1] != i64::MIN {
                noticed.audio_gap_ms = noticed.audio_gap_ms.max(time - latest[1]);
            }
            latest[at] = time;
            offset[at] = Some(time - message.made_ms);
            if let [Some(video), Some(audio)] = offset {
                noticed.skew_ms = noticed.skew_ms.max((video - audio).abs());
            }
            noticed.lag_ms = noticed.lag_ms.max((time - now.as_millis()).abs());
        }
        noticed
    }

    #[test]
    fn a_clock_that_steps_leaves_sound_and_picture_together_and_without_a_gap() {
        for step_ms in [
            -3_600_000, -20_000, -9_999, -5_000, -1_000, -400, -301, -299, -170, -151, -140, -30, 0, 30, 140,
            151, 170, 299, 400, 1_000, 9_999, 20_000, 3_600_000,
        ] {
            for at_ms in [7_000, 7_010, 7_023, 7_033, 12_345] {
                let clock = |made_ms| 10_000 + made_ms + if made_ms >= at_ms { step_ms } else { 0 };
                let noticed = play(&lesson(clock, |_| 40));
                let what = format!("{step_ms} ms at {at_ms} ms: {noticed:?}");
                assert!(noticed.audio_gap_ms < 200, "{what}");
                assert!(noticed.lag_ms <= 350, "{what}");
                // A step below the threshold is jitter: one track may follow it a frame before the other.
                assert!(noticed.skew_ms <= STEP_MIN.as_millis() + 40, "{what}");
            }
        }
    }

    #[test]
    fn after_a_step_the_tracks_are_as_far_apart_as_before() {
        for step_ms in (-12_000..12_000).step_by(37) {
            let clock = |made_ms| 20_000 + made_ms + if made_ms >= 7_000 { step_ms } else { 0 };
            let mut timeline = Timeline::new(MediaTime::ZERO);
            let mut offset = [0; 2];
            for message in lesson(clock, |made_ms| 40 + made_ms % 7 * 9) {
                let now = MediaTime::from_millis(message.arrived_ms);
                let time = timeline.unroll(message.track, message.timestamp_ms, now).as_millis();
                offset[usize::from(message.track == Audio)] = time - message.made_ms;
            }
            assert!((offset[0] - offset[1]).abs() <= 2, "{step_ms} ms: {offset:?}");
        }
    }

    #[test]
    fn steps_again_and_again_do_not_drift() {
        let clock = |made_ms: i64| 50_000 + made_ms - made_ms / 1000 * 900;
        let noticed = play(&lesson(clock, |_| 40));
        assert!(noticed.audio_gap_ms < 200 && noticed.skew_ms < 200 && noticed.lag_ms < 500, "{noticed:?}");
    }

    #[test]
    fn delays_and_pauses_are_no_steps() {
        // A network that stands still for three seconds, and then delivers all at once.
        let delay = |made_ms: i64| if (5000..8000).contains(&made_ms) { 8000 - made_ms } else { 40 };
        let noticed = play(&lesson(|made_ms| made_ms, delay));
        assert_eq!((noticed.audio_gap_ms, noticed.skew_ms), (24, 0), "{noticed:?}");
        // An app in the background for three seconds, whose clock goes on.
        let mut sent = lesson(|made_ms| made_ms, |_| 40);
        sent.retain(|message| !(5000..8000).contains(&message.made_ms));
        let noticed = play(&sent);
        assert_eq!(noticed.skew_ms, 0, "{noticed:?}");
        assert!((3000..3050).contains(&noticed.audio_gap_ms), "{noticed:?}");
    }

    #[test]
    fn a_file_that_is_sent_faster_than_it_plays_keeps_its_times() {
        let mut sent = lesson(|made_ms| made_ms, |_| 0);
        sent.iter_mut().for_each(|message| message.arrived_ms /= 20);
        let noticed = play(&sent);
        assert_eq!((noticed.audio_gap_ms, noticed.skew_ms), (24, 0), "{noticed:?}");
    }

    #[test]
    fn tracks_that_count_from_different_origins_each_keep_their_rhythm() {
        let mut timeline = Timeline::new(MediaTime::ZERO);
        let mut latest = [0; 2];
        for message in lesson(|made_ms| made_ms, |_| 40) {
            let origin = if message.track == Audio { 0 } else { 3_000_000_000 };
            let timestamp_ms = message.timestamp_ms.wrapping_add(origin);
            let now = MediaTime::from_millis(message.arrived_ms);
            let time = timeline.unroll(message.track, timestamp_ms, now).as_millis();
            let at = usize::from(message.track == Audio);
            assert!(message.made_ms == 0 || (20..=34).contains(&(time - latest[at])), "{message:?}");
            latest[at] = time;
        }
        assert_eq!(timeline.steps(), 0);
        assert!((latest[0] - latest[1]).abs() < 40, "{latest:?}");
    }

    #[test]
    fn any_timestamps_give_times_that_grow() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut timeline = Timeline::new(MediaTime::from_millis(77));
        let mut latest = [MediaTime::from_millis(77); 2];
        let (mut timestamp_ms, mut now_ms) = (0_u32, 0);
        for _ in 0..100_000 {
            timestamp_ms = match random() % 8 {
                0 => random() << 8,
                1 => timestamp_ms.wrapping_sub(random() % 20_000),
                _ => timestamp_ms.wrapping_add(random() % 50),
            };
            now_ms += i64::from(random() % 40);
            let (at, track) = if random() % 2 == 0 { (0, Video) } else { (1, Audio) };
            let time = timeline.unroll(track, timestamp_ms, MediaTime::from_millis(now_ms));
            assert!(time > latest[at]);
            latest[at] = time;
        }
    }
}
