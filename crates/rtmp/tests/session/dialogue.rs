//! What is said between the opening and the end.
use std::time::Duration;

use rtmp::{Error, Event, MediaKind, Rejection};

use crate::amf::{command, null, object, string};
use crate::client::{Client, chunks};

#[test]
fn a_refused_publisher_is_told_with_a_code_that_phones_know() {
    for (rejection, code) in [
        (Rejection::BadName("wrong key".to_owned()), "NetStream.Publish.BadName"),
        (Rejection::Failed("H.265".to_owned()), "NetStream.Publish.Failed"),
    ] {
        for mut client in [Client::waiting(), Client::publishing()] {
            client.sent.clear();
            client.session.reject_publish(&rejection);
            client.session.reject_publish(&rejection);
            client.drain();
            assert!(client.says(code) && client.is_closed);
            assert_eq!(client.sent.windows(code.len()).filter(|w| *w == code.as_bytes()).count(), 1);
            client.message(8, 1, &[0xaf, 1]).unwrap();
            assert!(client.events.is_empty(), "nothing is taken from it any more");
        }
    }
}

#[test]
fn every_way_of_ending_is_an_end() {
    for name in ["closeStream", "FCUnpublish", "deleteStream"] {
        for mut client in [Client::waiting(), Client::publishing()] {
            client.command(name, 0.0, &[null()]).unwrap();
            assert!(matches!(client.events[..], [Event::PublishEnded]), "{name}");
            assert!(client.is_closed);
        }
        let mut client = Client::open();
        client.command(name, 0.0, &[null()]).unwrap();
        assert!(client.events.is_empty() && !client.is_closed, "{name} ends nothing that has not begun");
    }
}

#[test]
fn silence_ends_each_phase_at_its_time() {
    let seconds = Duration::from_secs;
    let mut client = Client::connect();
    assert!(client.pass(seconds(4)).is_ok());
    assert_eq!(client.pass(seconds(1)), Err(Error::Timeout(rtmp::Phase::Handshake)));
    let mut client = Client::open();
    client.command("connect", 1.0, &[]).unwrap();
    assert!(client.pass(seconds(9)).is_ok());
    assert!(client.pass(seconds(1)).is_err());
    let mut client = Client::publishing();
    assert!(client.pass(seconds(14)).is_ok());
    client.message(8, 0, &[0xaf, 1]).unwrap();
    assert!(client.pass(seconds(14)).is_ok());
    assert_eq!(client.pass(seconds(1)), Err(Error::Timeout(rtmp::Phase::Media)));
}

#[test]
fn aggregates_are_taken_apart_and_their_times_rebased() {
    let mut client = Client::publishing();
    let tag = |kind: u8, time: u8, body: &[u8]| {
        let head = [kind, 0, 0, body.len() as u8, 0, 0, time, 0, 0, 0, 0];
        [&head[..], body, &[0, 0, 0, 14]].concat()
    };
    let (audio, video) = (tag(8, 10, &[0xaf, 1, 1]), tag(9, 33, &[0x27, 1, 2]));
    client.message(22, 1000, &[&audio[..], &video].concat()).unwrap();
    assert_eq!(client.media(), [(1000, vec![0xaf, 1, 1]), (1023, vec![0x27, 1, 2])]);
    // One that is cut short has the messages that are whole; one of crumbs has not more than fit in some seconds.
    client.events.clear();
    client.message(22, 2000, &[&audio[..], &video[..12]].concat()).unwrap();
    assert_eq!(client.media().len(), 1);
    client.events.clear();
    client.message(22, 3000, &tag(8, 0, &[0xaf]).repeat(50_000)).unwrap();
    assert_eq!(client.media().len(), 1024);
}

#[test]
fn amf3_framing_hides_an_amf0_command() {
    let mut client = Client::publishing();
    let framed = |body: Vec<u8>| [&[0][..], &body].concat();
    let metadata = [string("onMetaData"), object(&[("encoder", string("x"))])].concat();
    client.message(15, 0, &framed(metadata)).unwrap();
    client.message(17, 0, &framed(command("deleteStream", 0.0, &[null()]))).unwrap();
    assert!(matches!(client.events[..], [Event::Metadata(_), Event::PublishEnded]));
}

#[test]
fn pings_are_answered_and_other_user_control_is_not() {
    let mut client = Client::publishing();
    client.sent.clear();
    client.message(4, 0, &[0, 6, 1, 2, 3, 4]).unwrap();
    assert!(client.sent.ends_with(&[0, 7, 1, 2, 3, 4]));
    client.sent.clear();
    for body in [&[0, 3, 0, 0, 0, 1, 0, 0, 0x0b, 0xb8][..], &[0, 6, 1], &[0, 6], &[0], &[0, 99, 1, 2, 3, 4]] {
        client.message(4, 0, body).unwrap();
    }
    assert!(client.sent.is_empty());
}

#[test]
fn received_bytes_are_acknowledged_once_per_window() {
    let mut client = Client::publishing();
    client.message(5, 0, &100_000_u32.to_be_bytes()).unwrap();
    client.sent.clear();
    let mut acknowledged = Vec::new();
    for time in 0..400 {
        client.message(8, time, &[0xaf; 1000]).unwrap();
        acknowledged.extend(client.replies());
        client.sent.clear();
    }
    assert!(acknowledged.iter().all(|reply| reply.kind == 3));
    let totals: Vec<u32> =
        acknowledged.iter().map(|reply| u32::from_be_bytes(reply.body[..].try_into().unwrap())).collect();
    assert_eq!(totals.len(), 4, "{totals:?}");
    assert!(totals.windows(2).all(|pair| (100_000..102_000).contains(&(pair[1] - pair[0]))), "{totals:?}");
}

#[test]
fn metadata_is_reported_and_needs_no_values() {
    let mut client = Client::publishing();
    client.message(18, 0, &string("@setDataFrame")).unwrap();
    assert!(client.events.is_empty());
    let body = [string("@setDataFrame"), string("onMetaData"), object(&[("encoder", string("x"))])].concat();
    client.message(18, 0, &body).unwrap();
    assert!(matches!(&client.events[..], [Event::Metadata(properties)] if properties.len() == 1));
}

#[test]
fn media_before_the_answer_is_kept_within_bounds() {
    let mut client = Client::waiting();
    client.message(9, 0, &[0x17, 0, 0, 0, 0, 1]).unwrap();
    for time in 1..1000 {
        client.message(8, time, &[0xaf; 1000]).unwrap();
    }
    assert!(client.session.buffered_bytes() < 128 << 10);
    assert!(client.events.is_empty());
    client.accept();
    assert_eq!(client.media()[0], (0, vec![0x17, 0, 0, 0, 0, 1]), "the configuration is not lost");
    assert!(client.events.iter().any(|event| matches!(event, Event::Media { kind: MediaKind::Audio, .. })));
}

#[test]
fn a_keyframe_that_begins_behind_the_command_is_read_to_its_end() {
    let mut client = Client::waiting();
    let keyframe = [&[0x17, 1, 0, 0, 0][..], &[7; 100_000]].concat();
    let bytes = chunks(6, 9, 40, &keyframe, client.chunk_size);
    client.feed(&bytes[..2_000]).unwrap();
    assert!(client.session.buffered_bytes() < 128 << 10);
    client.accept();
    client.feed(&bytes[2_000..]).unwrap();
    assert_eq!(client.media(), [(40, keyframe)]);
}

#[test]
fn publishing_without_a_stream_and_twice_is_refused() {
    let mut client = Client::open();
    client.command("publish", 1.0, &[null(), string("k")]).unwrap();
    assert!(client.says("NetStream.Publish.BadName") && client.is_closed && client.events.is_empty());
    let mut client = Client::publishing();
    client.command("publish", 1.0, &[null(), string("k")]).unwrap();
    assert!(client.says("already publishes") && client.events.is_empty());
    client.message(8, 1, &[0xaf, 1]).unwrap();
    assert_eq!(client.media().len(), 1, "the stream goes on");
}

#[test]
fn who_wants_to_play_is_sent_to_the_page() {
    let mut client = Client::open();
    client.command("connect", 1.0, &[]).unwrap();
    client.feed(&chunks(8, 20, 0, &command("play", 0.0, &[null(), string("k")]), 128)).unwrap();
    assert!(client.says("NetStream.Play.Failed") && client.says("browser") && client.is_closed);
}

#[test]
fn empty_messages_are_no_media() {
    let mut client = Client::publishing();
    client.message(8, 1, &[]).unwrap();
    client.message(9, 1, &[]).unwrap();
    assert!(client.events.is_empty());
}
