//! When keyframe requests of one viewer are answered.
use std::time::{Duration, Instant};

/// After the first picture a request is not answered for this long: it may have crossed the keyframe.
const FIRST: Duration = Duration::from_millis(300);
/// A request is answered at most this often, and half as often each time that this did not help.
const INTERVAL: Duration = Duration::from_millis(1_000);
const INTERVAL_MAX: Duration = Duration::from_millis(8_000);
/// Without requests for this long, the next is answered as the first was.
const FORGET: Duration = Duration::from_secs(15);
/// A picture that stands still is given once more for a keyframe request, and again after this long: the answer may have been lost.
const SAME_AGAIN: Duration = Duration::from_secs(20);
/// Nothing new for this long is a lesson that stands still. Browsers ask after three seconds of it, whatever they have.
const STILL: Duration = Duration::from_secs(1);
/// Who has everything, and has watched for this long, asks because of that: a first keyframe that did not arrive was asked for before.
const WATCHED: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Replay {
    next: Instant,
    interval: Duration,
    /// When the newest frame came of those that answered the last request, and when that was.
    answered: Option<(Instant, Instant)>,
}

impl Replay {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, interval: INTERVAL, answered: None }
    }

    pub(super) fn on_first_frame(&mut self, now: Instant) {
        self.next = now + FIRST;
    }

    /// What was answered is void.
    pub(super) fn forget(&mut self) {
        self.answered = None;
    }

    /// Returns whether a request is to be answered, by a stream whose newest frame came then, of a viewer that has
    /// everything, as it says itself, and set out then.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        newest: Option<Instant>,
        has_all_since: Option<Instant>,
    ) -> bool {
        // Where nothing new has come, the same once more would only look to the player as if the lesson went on.
        let is_same = |(frame, at): (Instant, Instant)| Some(frame) == newest && now < at + SAME_AGAIN;
        let is_still = newest.is_some_and(|newest| now > newest + STILL);
        let has_watched = has_all_since.is_some_and(|since| now > since + WATCHED);
        if now < self.next || is_still && has_watched || self.answered.is_some_and(is_same) {
            return false;
        }
        self.answered = newest.map(|newest| (newest, now));
        if now > self.next + FORGET {
            self.interval = INTERVAL;
        }
        self.next = now + self.interval;
        self.interval = (self.interval * 2).min(INTERVAL_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn who_has_watched_a_lesson_that_stands_still_is_not_shown_it_again() {
        let start = Instant::now();
        let mut replay = Replay::new(start);
        let newest = Some(second(start, 20));
        assert!(!replay.on_request(second(start, 23), newest, Some(start)), "it has everything");
        assert!(replay.on_request(second(start, 23), newest, None), "something is still to be sent");
    }

    #[test]
    fn who_has_just_joined_a_slide_is_shown_it_once_more() {
        let start = Instant::now();
        let mut replay = Replay::new(start);
        let (newest, joined) = (Some(start), second(start, 9));
        assert!(replay.on_request(joined + Duration::from_secs(2), newest, Some(joined)));
        assert!(!replay.on_request(joined + Duration::from_secs(4), newest, Some(joined)), "the same again");
        assert!(!replay.on_request(joined + Duration::from_secs(40), newest, Some(joined)));
    }

    #[test]
    fn a_lesson_that_moves_is_given_again_to_who_cannot_read_it() {
        let start = Instant::now();
        let mut replay = Replay::new(start);
        let now = second(start, 30);
        assert!(replay.on_request(now, Some(now), Some(start)));
    }
}
