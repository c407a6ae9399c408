//! Sound that cannot be played: the picture goes on, and the teacher reads why.
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingest::publish::{Publication, PublishError};
use media::Track;
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
