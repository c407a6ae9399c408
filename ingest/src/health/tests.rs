//! Publishers in virtual time, and what their teachers read.
use bytes::Bytes;

use super::*;

const FRAME: Duration = Duration::from_millis(33);

/// A publisher of 30 pictures and 30 messages of sound a second.
struct Room {
    health: Health,
    began: Instant,
    now: Instant,
    frames: i64,
    sound: Sound,
    is_usable: bool,
    told: Vec<(&'static str, String)>,
}

/// How a stretch is sent.
#[derive(Clone, Copy)]
struct Manner {
    has_video: bool,
    has_audio: bool,
    /// Percent of real time.
    speed: i64,
    /// Frames from one keyframe to the next.
    gop: i64,
    /// Messages wait until this many milliseconds are full.
    lump_ms: u64,
}

const GOOD: Manner = Manner { has_video: true, has_audio: true, speed: 100, gop: 60, lump_ms: 1 };

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}

impl Room {
    fn new() -> Self {
        let began = Instant::now();
        let (health, sound, told) = (Health::default(), Sound::default(), Vec::new());
        Self { health, began, now: began, frames: 0, sound, is_usable: false, told }
    }

    /// Publishes for so many seconds of the clock. Returns when each problem came and went.
    fn send(&mut self, seconds: u64, manner: Manner) -> Vec<(f64, &'static str, bool)> {
        let (began, mut changes) = (self.now, Vec::new());
        let mut media = MediaTime::from_micros(self.frames * 33_000);
        let lead_at_begin = media - self.clock();
        while self.now < began + Duration::from_secs(seconds) {
            self.now += FRAME;
            let since = self.now.saturating_duration_since(began);
            // In lumps nothing comes, and then all that has waited.
            let lump = Duration::from_millis(manner.lump_ms);
            let is_held = since.as_nanos() / lump.as_nanos() == (since - FRAME).as_nanos() / lump.as_nanos();
            if manner.lump_ms > 1 && is_held {
                continue;
            }
            let due = lead_at_begin
                + MediaTime::from_micros(micros(since) * (manner.speed - 100) / 100)
                + self.clock();
            while media + MediaTime::from_millis(33) <= due {
                media = media + MediaTime::from_millis(33);
                self.frames += 1;
                let lead = media - self.clock();
                if manner.has_audio {
                    self.health.on_message(self.now, Track::Audio, media, lead);
                }
                if manner.has_video {
                    self.health.on_message(self.now, Track::Video, media, lead);
                    // Before the first keyframe none can be shown.
                    self.is_usable |= self.frames % manner.gop == 1;
                    if self.is_usable {
                        self.health.on_usable(self.now);
                    }
                    if self.frames % manner.gop == 1 {
                        self.health.on_entry(media);
                    }
                }
            }
            self.ask(since, &mut changes);
        }
        changes
    }

    fn ask(&mut self, since: Duration, changes: &mut Vec<(f64, &'static str, bool)>) {
        for (code, text) in self.health.changes(self.now, self.sound) {
            assert!(text.as_ref().is_none_or(|text| text.ends_with(['.', '?'])), "{text:?}");
            let is_told = self.told.iter().any(|(told, _)| *told == code);
            if is_told != text.is_some() {
                changes.push((since.as_secs_f64(), code, text.is_some()));
            }
            self.told.retain(|(told, _)| *told != code);
            self.told.extend(text.map(|text| (code, text)));
        }
    }

    fn clock(&self) -> MediaTime {
        MediaTime::from_micros(micros(self.now.saturating_duration_since(self.began)))
    }

    /// Sends well, then in this manner, then well: the problem alone comes within five seconds, and goes within six.
    fn has(&mut self, manner: Manner, code: &'static str) {
        assert_eq!(self.send(10, GOOD), [], "{code}");
        let came = self.send(12, manner);
        let [(at, told, true)] = came[..] else { panic!("{code}: {came:?}") };
        assert!(told == code && at <= 5.1, "{code}: {came:?}");
        let went = self.send(12, GOOD);
        let [(at, told, false)] = went[..] else { panic!("{code}: {went:?}") };
        assert!(told == code && at <= 6.0, "{code}: {went:?}");
    }
}

#[test]
fn a_good_publisher_reads_nothing() {
    assert_eq!(Room::new().send(120, GOOD), []);
    assert_eq!(Room::new().send(60, Manner { has_audio: false, ..GOOD }), []);
    assert_eq!(Room::new().send(60, Manner { has_video: false, ..GOOD }), []);
    assert_eq!(Room::new().send(60, Manner { speed: 98, ..GOOD }), []);
    assert_eq!(Room::new().send(60, Manner { lump_ms: 200, ..GOOD }), []);
    assert_eq!(Room::new().send(60, Manner { gop: 120, ..GOOD }), []);
}

#[test]
fn each_problem_comes_within_five_seconds_and_goes_when_it_is_cured() {
    Room::new().has(Manner { has_video: false, ..GOOD }, "picture_gone");
    Room::new().has(Manner { has_audio: false, ..GOOD }, "sound_gone");
    Room::new().has(Manner { has_video: false, has_audio: false, ..GOOD }, "nothing_comes");
    Room::new().has(Manner { speed: 50, ..GOOD }, "speed");
    Room::new().has(Manner { speed: 200, ..GOOD }, "speed");
    Room::new().has(Manner { lump_ms: 570, ..GOOD }, "lumps");
    Room::new().has(Manner { gop: 300, ..GOOD }, "keyframes_rare");
}

#[test]
fn only_keyframes_far_apart_are_told_whether_or_not_more_come() {
    let mut room = Room::new();
    room.send(1, GOOD);
    let came = room.send(60, Manner { gop: i64::MAX, ..GOOD });
    assert!(matches!(came[..], [(at, "keyframes_rare", true)] if at <= 5.0), "{came:?}");
    let [(_, text)] = &room.told[..] else { panic!("{:?}", room.told) };
    assert!(
        text.contains("60 s apart or more") || text.contains("61 s apart or more"),
        "the words follow: {text}"
    );
}

/// As OBS sends it: the pictures in between are B-frames, of which none is passed on.
#[test]
fn keyframes_far_apart_are_told_where_nothing_else_is_passed_on() {
    let mut room = Room::new();
    let mut told = Vec::new();
    for frame in 0..600 {
        room.now += FRAME;
        let media = MediaTime::from_micros(frame * 33_000);
        room.health.on_message(room.now, Track::Video, media, MediaTime::ZERO);
        room.health.on_message(room.now, Track::Audio, media, MediaTime::ZERO);
        room.health.on_usable(room.now);
        if frame % 250 == 0 {
            room.health.on_entry(media);
        }
        room.ask(room.now - room.began, &mut told);
    }
    assert!(matches!(told[..], [(at, "keyframes_rare", true)] if at <= 5.0), "{told:?}");
}

/// As ffmpeg holds it back until the next of few pictures.
#[test]
fn sound_in_lumps_beside_a_smooth_picture_is_told() {
    let mut room = Room::new();
    room.send(5, GOOD);
    let mut told = Vec::new();
    let mut waiting = Vec::new();
    for tick in 0..600 {
        room.now += FRAME;
        room.frames += 1;
        let media = MediaTime::from_micros(room.frames * 33_000);
        let lead = |room: &Room, media| media - room.clock();
        room.health.on_message(room.now, Track::Video, media, lead(&room, media));
        room.health.on_usable(room.now);
        if tick % 30 == 0 {
            room.health.on_entry(media);
        }
        waiting.push(media);
        if tick % 45 == 44 {
            for media in waiting.drain(..) {
                room.health.on_message(room.now, Track::Audio, media, lead(&room, media));
            }
        }
        room.ask(room.now - room.began, &mut told);
    }
    assert!(matches!(told[..], [(at, "lumps", true)] if at <= 12.0), "{told:?}");
    room.send(10, Manner { has_audio: false, ..GOOD });
    let codes: Vec<_> = room.told.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["sound_gone"], "what was said of the sound does not outlive it");
}

/// In whole seconds nothing comes at all.
#[test]
fn lumps_of_seconds_are_told_too() {
    let mut room = Room::new();
    room.send(10, GOOD);
    room.send(20, Manner { lump_ms: 2_500, ..GOOD });
    assert!(room.told.iter().any(|(code, _)| *code == "lumps"), "{:?}", room.told);
}

#[test]
fn slides_that_come_rarely_are_no_lost_picture_and_their_loss_is_told() {
    let mut room = Room::new();
    let mut told = Vec::new();
    for tick in 0..1_800 {
        room.now += FRAME;
        let media = MediaTime::from_micros(tick * 33_000);
        room.health.on_message(room.now, Track::Audio, media, MediaTime::ZERO);
        // One each 3.3 s for half a minute, and then none.
        if tick % 100 == 0 && tick < 1_000 {
            room.health.on_message(room.now, Track::Video, media, MediaTime::ZERO);
            room.health.on_usable(room.now);
            room.health.on_entry(media);
        }
        room.ask(room.now - room.began, &mut told);
    }
    assert!(matches!(told[..], [(at, "picture_gone", true)] if (35.0..38.0).contains(&at)), "{told:?}");
}

/// What was said of the picture does not outlive it.
#[test]
fn lumps_and_rare_keyframes_end_with_the_picture() {
    for manner in [Manner { lump_ms: 570, ..GOOD }, Manner { gop: 300, ..GOOD }] {
        let mut room = Room::new();
        room.send(12, manner);
        assert_eq!(room.told.len(), 1, "{:?}", room.told);
        room.send(12, Manner { has_video: false, ..GOOD });
        let codes: Vec<_> = room.told.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, ["picture_gone"]);
    }
}

#[test]
fn a_clock_that_steps_is_told_for_a_while() {
    let mut room = Room::new();
    room.send(10, GOOD);
    room.health.on_step(room.now);
    let changes = room.send(20, GOOD);
    let [(came, "timestamps_jump", true), (went, "timestamps_jump", false)] = changes[..] else {
        panic!("{changes:?}")
    };
    assert!(came < 1.0 && (10.0..11.0).contains(&went), "{changes:?}");
}

#[test]
fn a_picture_that_is_never_passed_on_is_told_until_one_is() {
    for has_audio in [true, false] {
        let mut room = Room::new();
        let never = Manner { gop: i64::MAX, has_audio, ..GOOD };
        // The very first picture of a room is a keyframe.
        room.frames = 1;
        let came = room.send(12, never);
        assert!(matches!(came[..], [(at, "picture_unusable", true)] if at <= 5.0), "{came:?}");
        let went = room.send(12, Manner { has_audio, ..GOOD });
        assert!(matches!(went[..], [(at, "picture_unusable", false)] if at <= 3.0), "{went:?}");
        // Amid a lesson too: the reason is not that keyframes are rare.
        room.is_usable = false;
        let came = room.send(12, never);
        assert!(matches!(came[..], [(at, "picture_unusable", true)] if at <= 5.0), "{came:?}");
    }
}

#[test]
fn one_damaged_picture_is_forgiven_and_two_are_told() {
    let mut room = Room::new();
    room.send(5, GOOD);
    room.health.on_damaged(room.now);
    assert_eq!(room.send(5, GOOD), []);
    room.health.on_damaged(room.now);
    let changes = room.send(20, GOOD);
    let [(came, "picture_damaged", true), (went, "picture_damaged", false)] = changes[..] else {
        panic!("{changes:?}")
    };
    assert!(came < 1.0 && went <= 10.5, "{changes:?}");
}

#[test]
fn silence_and_damage_are_told_by_what_the_decoder_says() {
    let mut room = Room::new();
    room.send(5, GOOD);
    room.sound = Sound { silent: SILENT - FRAME, undecodable: UNDECODABLE_FRAMES - 1, is_refused: false };
    assert_eq!(room.send(1, GOOD), []);
    room.sound = Sound { silent: SILENT, ..Sound::default() };
    assert!(matches!(room.send(1, GOOD)[..], [(_, "sound_silent", true)]));
    room.sound = Sound { undecodable: UNDECODABLE_FRAMES, ..Sound::default() };
    assert!(matches!(room.send(1, GOOD)[..], [(_, "sound_silent", false), (_, "sound_undecodable", true)]));
    room.sound.is_refused = true;
    assert!(matches!(room.send(1, GOOD)[..], [(_, "sound_undecodable", false)]), "once is enough");
}

#[test]
fn a_network_that_stands_still_for_a_moment_is_no_slow_publisher() {
    let mut room = Room::new();
    room.send(10, GOOD);
    // Nothing for two seconds, and then all of it.
    let changes = room.send(2, Manner { lump_ms: 1_999, ..GOOD });
    assert_eq!(changes, []);
    assert_eq!(room.send(20, GOOD), []);
}

#[test]
fn a_picture_beyond_its_level_is_told_with_its_size() {
    let config = |level, width, height| VideoConfig {
        sps: Bytes::new(),
        pps: Vec::new(),
        profile_level_id: [0x42, 0xc0, level],
        width,
        height,
    };
    let mut room = Room::new();
    for (level, width, height) in [(31, 1_280, 720), (40, 1_920, 1_080), (30, 720, 576), (99, 8_000, 8_000)] {
        room.health.on_config(&config(level, width, height));
        assert_eq!(room.send(1, GOOD), [], "{level}");
    }
    for (level, width, height) in [(30, 1_280, 720), (31, 1_920, 1_080)] {
        room.health.on_config(&config(level, width, height));
        assert!(matches!(room.send(1, GOOD)[..], [(_, "size_beyond_level", true)]), "{level}");
        let text = room.health.size.clone().unwrap();
        assert!(text.contains(&format!("{width}x{height}")) && text.contains("level 3."), "{text}");
        room.health.on_config(&config(52, width, height));
        room.send(1, GOOD);
    }
}
