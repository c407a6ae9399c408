//! From a publisher's 32-bit milliseconds to the stream's media time: here and nowhere else.
use media::{MediaTime, Track};

/// A step of more than this between two messages is no pause but another count: an app that restarts its clock, or
/// ffmpeg's fall from 2^31 to 0.
const JUMP_MS: i64 = 10_000;
/// The least distance of two frames of a track whose timestamps do not grow.
const STEP_MIN: MediaTime = MediaTime::from_millis(1);

/// The clock of one publisher. Both tracks share it: encoders count them from one origin.
#[derive(Debug)]
pub struct Timeline {
    resume_after: MediaTime,
    anchor: Option<Anchor>,
    latest: [Option<MediaTime>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    /// The last timestamp, and what it has been unrolled to.
    timestamp_ms: u32,
    time: MediaTime,
}

impl Timeline {
    /// The publishers before ended at `resume_after`.
    pub fn new(resume_after: MediaTime) -> Self {
        Self { resume_after, anchor: None, latest: [None; 2] }
    }

    /// The media time of a message. `now` is this moment on the stream's timeline: where a count begins, or begins
    /// anew, and it is never left far behind by one.
    pub fn unroll(&mut self, track: Track, timestamp_ms: u32, now: MediaTime) -> MediaTime {
        let time = match self.anchor {
            Some(anchor) => {
                let step_ms = i64::from(timestamp_ms.wrapping_sub(anchor.timestamp_ms).cast_signed());
                if step_ms.abs() <= JUMP_MS {
                    anchor.time + MediaTime::from_millis(step_ms)
                } else {
                    self.begin(now)
                }
            }
            None => self.begin(now),
        };
        self.anchor = Some(Anchor { timestamp_ms, time });
        let slot = match track {
            Track::Video => &mut self.latest[0],
            Track::Audio => &mut self.latest[1],
        };
        let time = slot.map_or(time, |latest| time.max(latest + STEP_MIN));
        *slot = Some(time);
        time
    }

    fn begin(&self, now: MediaTime) -> MediaTime {
        let latest = self.latest.iter().flatten().copied().max().unwrap_or(self.resume_after);
        now.max(latest.max(self.resume_after) + STEP_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: &[(Track, u32)]) -> Vec<i64> {
        let mut timeline = Timeline::new(MediaTime::ZERO);
        let now = MediaTime::from_millis(5000);
        steps.iter().map(|(track, ms)| timeline.unroll(*track, *ms, now).as_millis()).collect()
    }

    #[test]
    fn tracks_share_one_origin_and_may_overlap() {
        use Track::{Audio, Video};
        assert_eq!(run(&[(Video, 100), (Audio, 90), (Audio, 113), (Video, 133)]), [5000, 4990, 5013, 5033]);
    }

    #[test]
    fn the_count_may_pass_2_to_the_32() {
        let before = u32::MAX - 9;
        assert_eq!(run(&[(Track::Video, before), (Track::Video, before.wrapping_add(33))]), [5000, 5033]);
    }

    #[test]
    fn a_count_that_begins_anew_goes_on_after_what_was_before() {
        let times = run(&[
            (Track::Video, 1 << 31),
            (Track::Video, (1 << 31) + 33),
            (Track::Video, 0),
            (Track::Video, 33),
        ]);
        assert_eq!(times, [5000, 5033, 5034, 5067]);
    }

    #[test]
    fn equal_and_falling_timestamps_still_grow() {
        assert_eq!(run(&[(Track::Video, 50), (Track::Video, 50), (Track::Video, 40)]), [5000, 5001, 5002]);
    }

    #[test]
    fn a_new_publisher_goes_on_after_the_one_before() {
        let mut timeline = Timeline::new(MediaTime::from_millis(9000));
        assert_eq!(timeline.unroll(Track::Video, 7, MediaTime::from_millis(8000)).as_millis(), 9001);
    }
}
