//! Which pictures can be decoded, and when a keyframe is asked for: as libwebrtc's `video_receive_stream2.cc` does.
use std::time::{Duration, Instant};

/// How long a needed keyframe may take (`kMaxWaitForKeyFrame`), which is also the shortest time between two requests.
const KEYFRAME_WAIT: Duration = Duration::from_millis(200);
/// How long the next picture may take (`kMaxWaitForFrame`).
const PICTURE_WAIT: Duration = Duration::from_secs(3);
/// A stream without a packet for so long has nobody who could send a keyframe.
const INACTIVE: Duration = Duration::from_secs(5);

/// The decoder's side of one stream of video.
#[derive(Debug)]
pub(super) struct Playback {
    needs_keyframe: bool,
    /// When the last request was made, or the last picture was decoded.
    since: Instant,
    requested: Option<Instant>,
    last_packet: Option<Instant>,
}

impl Playback {
    pub(super) fn new(now: Instant) -> Self {
        Self { needs_keyframe: true, since: now, requested: None, last_packet: None }
    }

    pub(super) fn on_packet(&mut self, now: Instant) {
        self.last_packet = Some(now);
    }

    /// Takes the next picture of the stream and says whether it can be decoded.
    pub(super) fn on_picture(&mut self, now: Instant, is_complete: bool, is_keyframe: bool) -> bool {
        if !is_complete {
            self.on_damage(now);
        } else if is_keyframe || !self.needs_keyframe {
            self.needs_keyframe = false;
            self.since = now;
        }
        is_complete && !self.needs_keyframe
    }

    /// A keyframe is needed, and asked for at once unless that was just done.
    fn on_damage(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.needs_keyframe, true) {
            let due = self.requested.map_or(now, |requested| now.max(requested + KEYFRAME_WAIT));
            self.since = due.checked_sub(KEYFRAME_WAIT).unwrap_or(now);
        }
    }

    /// When the next request is due, if nothing comes.
    pub(super) fn deadline(&self) -> Instant {
        self.since + if self.needs_keyframe { KEYFRAME_WAIT } else { PICTURE_WAIT }
    }

    /// Whether a keyframe is to be asked for now.
    pub(super) fn wants_keyframe(&mut self, now: Instant) -> bool {
        if now < self.deadline() {
            return false;
        }
        self.since = now;
        let is_active = self.last_packet.is_some_and(|last| now.saturating_duration_since(last) < INACTIVE);
        if is_active {
            self.needs_keyframe = true;
            self.requested = Some(now);
        }
        is_active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_decoded_from_damage_to_the_next_keyframe() {
        let now = Instant::now();
        let mut playback = Playback::new(now);
        let pictures =
            [(true, false), (true, true), (true, false), (false, false), (true, false), (true, true)];
        let decoded = pictures.map(|(is_complete, is_key)| playback.on_picture(now, is_complete, is_key));
        assert_eq!(decoded, [false, true, true, false, false, true]);
    }

    /// Milliseconds at which a keyframe is asked for until `end`, with packets all the time.
    fn requests(playback: &mut Playback, start: Instant, from: u64, end: u64) -> Vec<u64> {
        let due = |ms: &u64| {
            let now = start + Duration::from_millis(*ms);
            playback.on_packet(now);
            playback.wants_keyframe(now)
        };
        (from..end).filter(due).collect()
    }

    #[test]
    fn a_keyframe_is_asked_for_as_browsers_do() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut playback = Playback::new(start);
        assert_eq!(requests(&mut playback, start, 0, 650), [200, 400, 600]);
        assert!(playback.on_picture(at(650), true, true));
        assert_eq!(requests(&mut playback, start, 650, 3_900), [3_650, 3_850], "after 3 s, then each 200 ms");
        assert!(playback.on_picture(at(3_900), true, true));
        assert!(!playback.on_picture(at(4_000), false, false));
        assert_eq!(requests(&mut playback, start, 4_000, 4_250), [4_050], "200 ms after the last");
    }

    #[test]
    fn a_stream_without_packets_is_not_asked() {
        let start = Instant::now();
        let mut playback = Playback::new(start);
        assert!(!playback.wants_keyframe(start + Duration::from_secs(1)));
        playback.on_packet(start + Duration::from_secs(1));
        assert!(playback.wants_keyframe(start + Duration::from_secs(2)));
        assert!(!playback.wants_keyframe(start + Duration::from_secs(7)));
    }
}
