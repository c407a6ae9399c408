//! Publications from a message to the hub's subscribers.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
mod room;
mod sound;

use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Subscription, Update};
use ingest::publish::PublishError;
use media::Track;
use rtmp::MediaKind;

use self::room::{LESSON, Room, TONE, messages, next, next_video};

/// As an encoder without a lesson would send it: length, then the NAL unit.
fn access_unit(keyframe: bool, nals: &[&[u8]]) -> Bytes {
    let mut body = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    for nal in nals {
        body.extend(u32::try_from(nal.len()).unwrap().to_be_bytes());
        body.extend_from_slice(nal);
    }
    body.into()
}

#[tokio::test]
async fn six_hundred_publishers_all_have_sound() {
    let room = Room::new();
    let mut publications: Vec<_> = (0..600).map(|index| room.publish(&format!("room{index}"))).collect();
    for (kind, timestamp_ms, body) in messages(TONE).into_iter().take(7) {
        for (publication, _) in &mut publications {
            publication.on_media(Instant::now(), kind, timestamp_ms, body.clone()).unwrap();
        }
    }
    for (index, (_, subscription)) in publications.iter_mut().enumerate() {
        let first = next(subscription, Track::Audio).await.time();
        let second = next(subscription, Track::Audio).await.time();
        assert_eq!((second - first).as_millis(), 20, "publisher {index}");
    }
    assert_eq!(room.metrics.audio_dropped.get(), 0);
}

#[tokio::test]
async fn sound_goes_on_after_the_publishers_clock_went_back() {
    for (step_ms, may_lack) in [(5000_u32, 1), (400, 1), (100, 6)] {
        let room = Room::new();
        let (mut publication, mut subscription) = room.publish("room101");
        let start = Instant::now();
        let sent: Vec<_> = messages(TONE).into_iter().take(120).collect();
        let mut packets = 0;
        let mut times = Vec::new();
        for (index, (kind, timestamp_ms, body)) in sent.into_iter().enumerate() {
            let now = start + Duration::from_millis(u64::from(timestamp_ms));
            let shown_ms = 10_000 + timestamp_ms - if index >= 60 { step_ms } else { 0 };
            publication.on_media(now, kind, shown_ms, body).unwrap();
            // The pool keeps up when it is asked to: each frame of 23 ms completes a packet of 20 ms, but for the first.
            while index > 3 && packets < index - 3 - if index >= 60 { may_lack } else { 0 } {
                times.push(next(&mut subscription, Track::Audio).await.time().as_millis());
                packets += 1;
            }
        }
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= 100, "{step_ms} ms back: a gap of {gap} ms");
        assert_eq!(room.metrics.clock_steps.get(), u64::from(step_ms > 150));
        assert_eq!(room.metrics.audio_dropped.get(), 0);
    }
}

#[tokio::test]
async fn filler_and_supplemental_information_are_not_kept_in_memory() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let mut sent = messages(LESSON).into_iter().filter(|(kind, ..)| *kind == MediaKind::Video);
    let now = Instant::now();
    let (kind, timestamp_ms, config) = sent.next().unwrap();
    publication.on_media(now, kind, timestamp_ms, config.clone()).unwrap();
    let (kind, timestamp_ms, keyframe) = sent.next().unwrap();
    publication.on_media(now, kind, timestamp_ms, keyframe.clone()).unwrap();
    let frame = next_video(&mut subscription).await;
    let is_within = |part: &[u8], whole: &[u8]| whole.as_ptr_range().contains(&part.as_ptr());
    assert!(frame.nals.iter().all(|nal| is_within(nal, &keyframe)), "an ordinary frame is not copied");
    assert!(!is_within(&frame.config.sps, &config) && !is_within(&frame.config.pps[0], &config));

    let (slice, filler) = ([0x41, 0x9a, 0x24, 0x6c], vec![0x0c; 1 << 20]);
    let body = access_unit(false, &[&filler, &slice, &filler]);
    publication.on_media(now, MediaKind::Video, timestamp_ms + 33, body.clone()).unwrap();
    let frame = next_video(&mut subscription).await;
    assert_eq!(frame.nals[..], [Bytes::copy_from_slice(&slice)]);
    assert!(!is_within(&frame.nals[0], &body), "4 bytes would keep 2 MiB");
}

#[tokio::test]
async fn hostile_video_is_counted_and_what_follows_plays() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let now = Instant::now();
    let mut lesson = messages(LESSON).into_iter().filter(|(kind, ..)| *kind == MediaKind::Video);
    let flood = vec![&[0x41_u8][..]; 513];
    for body in [
        access_unit(true, &[]),
        access_unit(true, &[&[]]),
        access_unit(true, &[&[], &[], &[]]),
        access_unit(false, &[&[0x41]]),
        access_unit(true, &[&[0x67], &[0x68], &[0x65]]),
        access_unit(true, &flood),
        Bytes::from_static(&[0x17, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        Bytes::from_static(&[0x17, 0, 0, 0, 0]),
        Bytes::from_static(&[0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 0, 1, 0, 0]),
        Bytes::from_static(&[0x17]),
    ] {
        publication.on_media(now, MediaKind::Video, 0, body).unwrap();
    }
    assert_eq!(room.metrics.nals_exceeded.get(), 1);
    assert!(room.metrics.damaged.get() >= 3, "{} messages", room.metrics.damaged.get());
    lesson.by_ref().take(2).for_each(|(kind, timestamp_ms, body)| {
        publication.on_media(now, kind, timestamp_ms, body).unwrap();
    });
    assert!(next_video(&mut subscription).await.keyframe);
}

#[tokio::test]
async fn after_a_damaged_picture_nothing_is_passed_on_up_to_the_next_keyframe() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let now = Instant::now();
    let mut keyframes = 0;
    let lesson = messages(LESSON).into_iter().filter(|(kind, ..)| *kind == MediaKind::Video);
    for (index, (kind, timestamp_ms, mut body)) in lesson.enumerate() {
        keyframes += usize::from(body[0] == 0x17 && body[1] == 1);
        if index == 10 {
            assert_eq!(keyframes, 1);
            body.truncate(body.len() - 20);
        }
        publication.on_media(now, kind, timestamp_ms, body).unwrap();
        if keyframes == 2 {
            break;
        }
    }
    // The configuration came first.
    for index in 0..9 {
        assert_eq!(next_video(&mut subscription).await.keyframe, index == 0);
    }
    assert!(next_video(&mut subscription).await.keyframe, "what follows needs the damaged one");
}

#[tokio::test]
async fn recovery_points_of_an_encoder_that_refreshes_bit_by_bit_are_marked() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let start = Instant::now();
    let file = include_bytes!("../../../crates/media/tests/fixtures/intra-refresh.flv");
    let mut marked = Vec::new();
    for (kind, timestamp_ms, body) in messages(file) {
        let now = start + Duration::from_millis(u64::from(timestamp_ms));
        publication.on_media(now, kind, timestamp_ms, body).unwrap();
    }
    for index in 0..45 {
        let frame = next_video(&mut subscription).await;
        if frame.keyframe || frame.recovery_point {
            marked.push((index, frame.keyframe));
        }
    }
    assert_eq!(marked, [(0, true), (15, false), (30, false)]);
}

#[tokio::test]
async fn parameter_sets_that_change_come_into_force_with_the_next_keyframe() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let now = Instant::now();
    let other = messages(include_bytes!("../../../crates/media/tests/fixtures/high.flv"));
    let of_video = |messages: Vec<(MediaKind, u32, Bytes)>| {
        messages.into_iter().filter(|(kind, ..)| *kind == MediaKind::Video).map(|(.., body)| body)
    };
    let before: Vec<_> = of_video(messages(LESSON)).take(3).collect();
    let after: Vec<_> = of_video(other).take(2).collect();
    let order = [&before[0], &before[1], &after[0], &before[2], &after[1]];
    for (body, timestamp_ms) in order.into_iter().zip((0..).step_by(33)) {
        publication.on_media(now, MediaKind::Video, timestamp_ms, body.clone()).unwrap();
    }
    let first = next_video(&mut subscription).await;
    let second = next_video(&mut subscription).await;
    let third = next_video(&mut subscription).await;
    assert_eq!(first.config, second.config, "a picture is made with the sets of its keyframe");
    assert!(third.keyframe && third.config != first.config);
}

#[tokio::test]
async fn an_aac_configuration_that_changes_changes_the_decoder_and_the_sound_goes_on() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let start = Instant::now();
    let files: [&'static [u8]; 3] = [TONE, include_bytes!("../fixtures/tone-48000-2.flv"), TONE];
    let (mut times, mut clock_ms) = (Vec::new(), 0);
    for file in files {
        let sent: Vec<_> = messages(file).into_iter().take(40).collect();
        for (kind, timestamp_ms, body) in sent {
            let now = start + Duration::from_millis(u64::from(clock_ms + timestamp_ms));
            publication.on_media(now, kind, clock_ms + timestamp_ms, body).unwrap();
        }
        for _ in 0..30 {
            times.push(next(&mut subscription, Track::Audio).await.time().as_millis());
        }
        clock_ms += 920;
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert_eq!(room.metrics.damaged.get(), 0);
}

#[tokio::test]
async fn sound_of_which_too_much_is_in_one_message_is_refused_in_words() {
    let room = Room::new();
    let (mut publication, _subscription) = room.publish("room101");
    // AAC, a second of A-law, MP3.
    for (head, len) in [(&[0xaf, 1][..], 8192), (&[0x72], 8000), (&[0x2f], 2500)] {
        let body = Bytes::from([head, &vec![0x21; len]].concat());
        publication.on_media(Instant::now(), MediaKind::Audio, 0, body).unwrap();
        assert_eq!(room.problems(), ["sound_unsupported"], "{head:?}");
    }
}

#[tokio::test]
async fn a_picture_that_cannot_be_played_ends_the_publication_with_words() {
    let room = Room::new();
    let (mut publication, _subscription) = room.publish("room101");
    let body = Bytes::from_static(b"\x90hvc1xx");
    let refused = publication.on_media(Instant::now(), MediaKind::Video, 0, body);
    let Err(PublishError::Unusable(text)) = refused else { panic!("HEVC was taken") };
    assert!(text.contains("choose"), "{text}");
    assert_eq!(room.problems(), ["codec_unsupported"]);
}

/// A linear congruential generator: the same in every run.
struct Dice(u32);

impl Dice {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % end
    }
}

/// What waits for a subscriber now, as track and time.
async fn waiting(subscription: &mut Subscription) -> Vec<(Track, i64)> {
    let mut frames = Vec::new();
    while let Ok(Some(update)) = tokio::time::timeout(Duration::ZERO, subscription.next()).await {
        if let Update::Frame(item) = update {
            frames.push((item.frame.track(), item.frame.time().as_micros()));
        }
    }
    frames
}

#[tokio::test]
async fn whatever_publishers_send_the_time_of_each_track_only_grows() {
    let room = Room::new();
    let mut dice = Dice(7);
    // Opus is passed on at once; AAC would come when the pool has time.
    let opus = (MediaKind::Audio, 0, Bytes::from_static(b"\x91Opus\xf8\xff\xfe"));
    let mut sent = messages(LESSON);
    sent.extend(std::iter::repeat_n(opus, 50));
    let mut watched: Option<Subscription> = None;
    let mut latest = [i64::MIN; 2];
    let mut counts = [0; 2];
    let mut now = Instant::now();
    for _ in 0..60 {
        let (mut publication, subscription) = room.publish("room101");
        let watched = watched.get_or_insert(subscription);
        let mut timestamp_ms = dice.below(u32::MAX >> 8) << 8;
        for _ in 0..60 {
            let at = usize::try_from(dice.below(u32::try_from(sent.len()).unwrap())).unwrap();
            let (kind, _, body) = &sent[if dice.below(8) == 0 { dice.below(3) as usize } else { at }];
            let mut body = body.to_vec();
            if dice.below(10) == 0 {
                let at = usize::try_from(dice.below(u32::try_from(body.len().min(40)).unwrap())).unwrap();
                body[at] ^= 1 << dice.below(8);
            }
            timestamp_ms = match dice.below(12) {
                0 => dice.below(u32::MAX >> 8) << 8,
                1 => timestamp_ms.wrapping_sub(dice.below(12_000)),
                _ => timestamp_ms.wrapping_add(dice.below(40)),
            };
            now += Duration::from_millis(u64::from(dice.below(40)));
            if publication.on_media(now, *kind, timestamp_ms, body.into()).is_err() {
                break;
            }
        }
        for (track, time) in waiting(watched).await {
            let at = usize::from(track == Track::Audio);
            assert!(time > latest[at], "{track:?} at {time} after {}", latest[at]);
            latest[at] = time;
            counts[at] += 1;
        }
    }
    assert!(counts[0] > 50 && counts[1] > 50, "{counts:?}");
}

#[tokio::test]
async fn the_sound_of_the_next_publisher_comes_after_that_of_the_one_before() {
    let room = Room::new();
    let (mut first, mut subscription) = room.publish("room101");
    let now = Instant::now();
    let sent: Vec<_> = messages(TONE).into_iter().take(12).collect();
    for (kind, timestamp_ms, body) in sent.iter().cloned() {
        first.on_media(now, kind, timestamp_ms, body).unwrap();
    }
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(next(&mut subscription, Track::Audio).await.time());
    }
    let (mut second, _) = room.publish("room101");
    for (kind, timestamp_ms, body) in sent {
        second.on_media(now, kind, timestamp_ms, body).unwrap();
    }
    for _ in 0..10 {
        times.push(next(&mut subscription, Track::Audio).await.time());
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}
