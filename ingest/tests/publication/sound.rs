//! Sound that cannot be played: the picture goes on, and the teacher reads why.
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingest::publish::{Publication, PublishError};
use media::{Frame, Track};
use rtmp::MediaKind;

use crate::room::{LESSON, Room, TONE, messages, next, next_video};

/// Speex, Opus of another length, AAC of six channels by its configuration and by its ADTS headers.
const UNPLAYABLE: [&[u8]; 4] = [
    b"\xb6speex",
    b"\x91Opus\x00\x00",
    &[0xaf, 0, 0x12, 0x30],
    b"\xaf\x01\xff\xf1\x51\x80\x01\xff\xfc\x21\x10\x05\x00\xa0\x1b\xff\xc0",
];

#[tokio::test]
async fn sound_that_cannot_be_played_leaves_the_picture_alone() {
    for unplayable in UNPLAYABLE {
        let room = Room::new();
        let (mut publication, mut subscription) = room.publish("room101");
        let start = Instant::now();
        let picture: Vec<_> =
            messages(LESSON).into_iter().filter(|(kind, ..)| *kind == MediaKind::Video).collect();
        for (kind, timestamp_ms, body) in picture.into_iter().take(20) {
            let now = start + Duration::from_millis(timestamp_ms.into());
            publication.on_media(now, kind, timestamp_ms, body).unwrap();
            publication
                .on_media(now, MediaKind::Audio, timestamp_ms, Bytes::from_static(unplayable))
                .unwrap();
            // A frame that belongs to what was refused is no sound either.
            publication
                .on_media(now, MediaKind::Audio, timestamp_ms, Bytes::from_static(&[0xaf, 1, 0x21]))
                .unwrap();
        }
        for _ in 0..15 {
            next_video(&mut subscription).await;
        }
        assert_eq!(room.problems(), ["sound_unsupported"], "{unplayable:?}");
        assert!(!room.hub.status("room101").unwrap().tracks.audio);
        // The teacher changes a setting.
        for (kind, timestamp_ms, body) in messages(TONE).into_iter().take(60) {
            let now = start + Duration::from_millis((2_500 + timestamp_ms).into());
            publication.on_media(now, kind, 2_500 + timestamp_ms, body).unwrap();
        }
        next(&mut subscription, Track::Audio).await;
        publication.on_media(start + Duration::from_secs(4), MediaKind::Video, 4_000, Bytes::new()).unwrap();
        assert_eq!(room.problems(), [""; 0]);
        assert!(room.hub.status("room101").unwrap().tracks.audio);
    }
}

#[tokio::test]
async fn nothing_but_sound_that_cannot_be_played_ends_the_publication_with_words() {
    for unplayable in UNPLAYABLE {
        let room = Room::new();
        let (mut publication, _subscription) = room.publish("room101");
        let start = Instant::now();
        let body = Bytes::from_static(unplayable);
        publication.on_media(start, MediaKind::Audio, 0, body.clone()).unwrap();
        let refused = publication.on_media(start + Duration::from_secs(1), MediaKind::Audio, 1_000, body);
        let Err(PublishError::Unusable(text)) = refused else { panic!("{unplayable:?} was taken") };
        assert!(text.contains("choose"), "{text}");
    }
}

#[tokio::test]
async fn a_stray_message_of_another_codec_ends_no_sound() {
    for stray in [UNPLAYABLE[0], UNPLAYABLE[1]] {
        let room = Room::new();
        let (mut publication, mut subscription) = room.publish("room101");
        let start = Instant::now();
        let mut packets = 0;
        for (index, (kind, timestamp_ms, body)) in messages(TONE).into_iter().enumerate().take(120) {
            let now = start + Duration::from_millis(timestamp_ms.into());
            if index == 40 {
                publication.on_media(now, MediaKind::Audio, timestamp_ms, Bytes::from_static(stray)).unwrap();
                assert_eq!(room.problems(), ["sound_unsupported"]);
                packets = timestamp_ms;
            }
            publication.on_media(now, kind, timestamp_ms, body).unwrap();
        }
        assert_eq!(room.problems(), [""; 0], "a second later");
        loop {
            let Frame::Audio(frame) = next(&mut subscription, Track::Audio).await else {
                unreachable!("sound")
            };
            if frame.time.as_millis() > i64::from(packets) + 1_000 {
                break;
            }
        }
    }
}

/// An Opus packet of 20 ms of silence, and the header before packets with so many channels.
const OPUS: &[u8] = b"\x91Opus\xf8\xff\xfe";

fn opus_header(channels: u8) -> Bytes {
    [&b"\x90OpusOpusHead\x01"[..], &[channels, 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat().into()
}

/// What is known to be wrong with the sound after two seconds of these packets.
fn problems_after(
    room: &Room,
    publication: &mut Publication,
    from_ms: u32,
    packet: &[u8],
) -> Vec<&'static str> {
    let start = Instant::now();
    for ms in (0..2_000).step_by(20) {
        let at = start + Duration::from_millis((from_ms + ms).into());
        publication.on_media(at, MediaKind::Video, from_ms + ms, Bytes::new()).unwrap();
        publication.on_media(at, MediaKind::Audio, from_ms + ms, Bytes::copy_from_slice(packet)).unwrap();
    }
    room.problems().into_iter().filter(|code| code.starts_with("sound_")).collect()
}

#[tokio::test]
async fn opus_that_cannot_be_passed_on_is_refused_for_as_long_as_it_comes() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    // A picture, so that sound alone does not end it.
    for (kind, timestamp_ms, body) in
        messages(LESSON).into_iter().filter(|(kind, ..)| *kind == MediaKind::Video).take(3)
    {
        publication.on_media(Instant::now(), kind, timestamp_ms, body).unwrap();
    }
    let mut send = |body| publication.on_media(Instant::now(), MediaKind::Audio, 0, body).unwrap();
    // Packets of several streams look like those of one.
    send(opus_header(6));
    assert_eq!(problems_after(&room, &mut publication, 0, OPUS), ["sound_unsupported"]);
    let mut send = |body| publication.on_media(Instant::now(), MediaKind::Audio, 0, body).unwrap();
    send(opus_header(2));
    assert_eq!(problems_after(&room, &mut publication, 4_000, OPUS), [""; 0]);
    next(&mut subscription, Track::Audio).await;
    let large = [OPUS, &[0; media::opus::PACKET_BYTES_MAX]].concat();
    assert_eq!(problems_after(&room, &mut publication, 8_000, &large), ["sound_unsupported"]);
}

#[tokio::test]
async fn he_aac_that_was_announced_is_forgotten_with_another_codec() {
    let room = Room::new();
    let (mut publication, _subscription) = room.publish("room101");
    let announced = Bytes::from_static(&[0xaf, 0, 0x2b, 0x92, 0x08, 0x00]);
    publication.on_media(Instant::now(), MediaKind::Audio, 0, announced).unwrap();
    assert_eq!(room.problems(), ["sound_core_only"]);
    assert_eq!(problems_after(&room, &mut publication, 0, OPUS), [""; 0]);
}

#[tokio::test]
async fn a_picture_that_is_announced_is_waited_for_although_the_sound_cannot_be_played() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let start = Instant::now();
    let mut picture = messages(LESSON).into_iter().filter(|(kind, ..)| *kind == MediaKind::Video);
    let (kind, timestamp_ms, configuration) = picture.next().unwrap();
    publication.on_media(start, kind, timestamp_ms, configuration).unwrap();
    for ms in (0..2_500).step_by(100) {
        let at = start + Duration::from_millis(ms.into());
        publication.on_media(at, MediaKind::Audio, ms, Bytes::from_static(UNPLAYABLE[0])).unwrap();
    }
    for (kind, timestamp_ms, body) in picture.take(5) {
        publication.on_media(start + Duration::from_millis(2_500), kind, 2_500 + timestamp_ms, body).unwrap();
    }
    next_video(&mut subscription).await;
}

#[tokio::test]
async fn sound_that_does_not_decode_is_told_until_it_does() {
    let room = Room::new();
    let (mut publication, mut subscription) = room.publish("room101");
    let start = Instant::now();
    let sound: Vec<_> = messages(TONE).into_iter().take(80).collect();
    let decodes = |publication: &mut Publication, is_damaged: bool, offset_ms: u32| {
        for (kind, timestamp_ms, body) in &sound {
            let timestamp_ms = offset_ms + timestamp_ms;
            let mut body = body.to_vec();
            // What is left of a frame when most of it is cut off.
            if is_damaged && body[1] == 1 {
                body.truncate(8);
            }
            let now = start + Duration::from_millis(timestamp_ms.into());
            publication.on_media(now, *kind, timestamp_ms, body.into()).unwrap();
        }
    };
    decodes(&mut publication, true, 0);
    room.until_problems(&mut publication, start + Duration::from_secs(2), &["sound_undecodable"]);
    decodes(&mut publication, false, 3_000);
    room.until_problems(&mut publication, start + Duration::from_secs(5), &[]);
    next(&mut subscription, Track::Audio).await;
}
