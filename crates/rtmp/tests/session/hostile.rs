//! What must hurt nobody but its sender.
use std::time::Duration;

use rtmp::{Error, Event, Limits};

use crate::amf::{command, null, number, object, string};
use crate::client::{Client, chunks};
use crate::random::Random;

/// What a connection may keep before it publishes: four messages and its answers.
const STRANGER_BYTES_MAX: usize = 512 << 10;

#[test]
fn one_byte_a_second_does_not_keep_a_handshake_alive() {
    let mut client = Client::connect();
    for _ in 0..4 {
        client.pass(Duration::from_secs(1)).unwrap();
        client.feed(&[3]).unwrap();
    }
    assert!(client.pass(Duration::from_secs(1)).is_err());
}

#[test]
fn half_open_connections_keep_no_more_than_they_sent() {
    let mut clients: Vec<Client> = (0..500).map(|_| Client::connect()).collect();
    for client in &mut clients {
        client.feed(&[&[3], &[0; 700][..]].concat()).unwrap();
        assert_eq!(client.session.buffered_bytes(), 701);
        assert_eq!(client.pass(Duration::from_secs(5)), Err(Error::Timeout(rtmp::Phase::Handshake)));
    }
}

#[test]
fn other_protocols_are_refused_by_name_at_their_first_byte() {
    for (bytes, hint) in
        [(&b"G"[..], "HTTP"), (b"POST / HTTP/1.1\r\n", "HTTP"), (&[6; 100], "rtmpe"), (&[0x16, 3, 1], "TLS")]
    {
        let error = Client::connect().feed(bytes).unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn nested_values_end_the_connection_and_not_the_process() {
    for marker in [&[3_u8, 0, 1, b'a'][..], &[0x0a, 0, 0, 0, 1], &[8, 0, 0, 0, 1, 0, 1, b'a']] {
        let nested = marker.repeat(60_000 / marker.len());
        let mut client = Client::open();
        let body = [command("connect", 1.0, &[]), nested.clone()].concat();
        assert!(matches!(client.message(20, 0, &body), Err(Error::Amf(_))));
        let mut client = Client::publishing();
        client.message(18, 0, &[string("onMetaData"), nested].concat()).unwrap();
        assert!(client.events.is_empty(), "metadata is worth what can be read of it");
    }
}

#[test]
fn only_media_may_be_large() {
    let mut client = Client::publishing();
    let text = object(&[("a", string(&"x".repeat(60_000))), ("b", string(&"y".repeat(60_000)))]);
    client.message(18, 0, &[string("onMetaData"), text.clone()].concat()).unwrap();
    client.message(20, 0, &command("deleteStream", 0.0, &[text])).unwrap();
    assert!(client.events.is_empty() && !client.is_closed);
    client.message(9, 0, &vec![0x27; 120_000]).unwrap();
    assert_eq!(client.media().len(), 1);
}

#[test]
fn text_that_is_not_text_and_commands_without_values_are_survived() {
    let mut client = Client::open();
    client.message(20, 0, &[2, 0, 4, 0xff, 0xfe, 0xc3, 0x28]).unwrap();
    for name in ["connect", "releaseStream", "FCPublish", "createStream", "FCUnpublish", "_checkbw"] {
        client.message(20, 0, &string(name)).unwrap();
    }
    client.message(20, 0, &number(1.0)).unwrap();
    client.message(20, 0, &[]).unwrap();
    client.message(17, 0, &[0]).unwrap();
    client.message(20, 0, &string("publish")).unwrap();
    assert!(
        matches!(&client.events[..], [Event::PublishRequested(request)] if request.stream_key.is_empty())
    );
}

#[test]
fn an_endless_name_is_no_name() {
    let mut client = Client::open();
    let name = string(&"a".repeat(2000));
    client.command("connect", 1.0, &[object(&[("app", name.clone())])]).unwrap();
    client.command("FCPublish", 2.0, &[null(), name.clone()]).unwrap();
    client.command("createStream", 3.0, &[null()]).unwrap();
    client.command("publish", 4.0, &[null(), name]).unwrap();
    assert!(!client.says("aaa"));
    assert!(
        matches!(&client.events[..], [Event::PublishRequested(request)] if *request == Default::default())
    );
}

#[test]
fn chunk_sizes_and_control_messages_out_of_range_are_errors() {
    for size in [0_u32, 0x8000_0000] {
        assert!(matches!(Client::open().message(1, 0, &size.to_be_bytes()), Err(Error::Control { .. })));
    }
    for len in 0..4 {
        for kind in [1, 2, 5] {
            let header = [4, 0, 0, 0, 0, 0, len, kind, 0, 0, 0, 0];
            let outcome = Client::open().feed(&[&header[..], &vec![0; usize::from(len)]].concat());
            assert!(matches!(outcome, Err(Error::Control { .. })), "type {kind}, {len} bytes");
        }
    }
    assert!(matches!(Client::open().feed(&[0xc5]), Err(Error::NoHeader(5))));
}

#[test]
fn the_largest_chunk_size_is_legal_and_costs_nothing() {
    let mut client = Client::publishing();
    client.message(1, 0, &0x7fff_ffff_u32.to_be_bytes()).unwrap();
    client.feed(&[4, 0, 0, 0, 0x3f, 0xff, 0xff, 9, 1, 0, 0, 0, 1, 2, 3]).unwrap();
    assert_eq!(client.session.buffered_bytes(), 15);
}

#[test]
fn an_announced_length_allocates_nothing_and_16_mb_are_refused_before_they_come() {
    let header = |len: [u8; 3]| [4, 0, 0, 0, len[0], len[1], len[2], 9, 1, 0, 0, 0];
    for _ in 0..20 {
        let outcome = Client::open().feed(&header([0xff; 3]));
        assert!(matches!(outcome, Err(Error::MessageTooLarge { max: 0x1_0000, .. })));
    }
    assert!(matches!(Client::open().feed(&header([1, 0, 1])), Err(Error::MessageTooLarge { .. })));
    let mut client = Client::publishing();
    client.feed(&header([0x40, 0, 0])).unwrap();
    assert_eq!(client.session.buffered_bytes(), 12, "4 MiB are announced and 12 bytes kept");
    assert!(matches!(Client::publishing().feed(&header([0x40, 0, 1])), Err(Error::MessageTooLarge { .. })));
}

#[test]
fn chunk_streams_are_counted() {
    let mut client = Client::open();
    let mut opened = 0;
    let outcome = (0..=u16::MAX).try_for_each(|id| {
        let [low, high] = id.to_le_bytes();
        opened += 1;
        client.feed(&[&[1, low, high, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0][..], &[1; 128]].concat())
    });
    assert_eq!(outcome, Err(Error::TooManyChunkStreams(Limits::default().chunk_streams)));
    assert!(opened <= 17 && client.session.buffered_bytes() < STRANGER_BYTES_MAX);
}

#[test]
fn unfinished_messages_are_bounded_together() {
    for (mut client, len, max) in [
        (Client::open(), [1, 0, 0], STRANGER_BYTES_MAX),
        (Client::publishing(), [0x40, 0, 0], Limits::default().partial_bytes + (1 << 20)),
    ] {
        client.feed(&chunks(2, 1, 0, &4096_u32.to_be_bytes(), 128)).unwrap();
        // A message on one chunk stream after the other, and never its last chunk.
        let mut outcome = Ok(());
        for id in 4..16 {
            let count = usize::from(len[0]) * 16 + usize::from(len[1] / 16) - 1;
            let mut head = vec![id, 0, 0, 0, len[0], len[1], len[2], 9, 1, 0, 0, 0];
            for _ in 0..count {
                outcome = outcome.and_then(|()| client.feed(&[&head[..], &[1; 4096]].concat()));
                assert!(client.session.buffered_bytes() <= max);
                head = vec![0xc0 | id];
            }
        }
        assert!(matches!(outcome, Err(Error::TooMuchPartial(_))));
    }
}

#[test]
fn a_flood_of_commands_is_ended() {
    for name in ["connect", "createStream", "nonsense"] {
        let mut client = Client::open();
        let flood = (0..300).find_map(|_| client.command(name, 1.0, &[]).err());
        assert_eq!(flood, Some(Error::TooManyCommands(256)));
    }
}

#[test]
fn a_peer_that_asks_and_never_reads_is_ended() {
    let mut client = Client::publishing();
    let pings: Vec<u8> = (0..20_000).flat_map(|_| chunks(2, 4, 0, &[0, 6, 0, 0, 0, 0], 128)).collect();
    let outcome = client.session.handle_input(client.now, &pings);
    assert_eq!(outcome, Err(Error::NotReading(Limits::default().output_bytes)));
}

#[test]
fn changed_bytes_never_panic_nor_grow_memory() {
    let mut good = chunks(3, 20, 0, &command("connect", 1.0, &[object(&[("app", string("live"))])]), 128);
    good.extend(chunks(3, 20, 0, &command("createStream", 2.0, &[null()]), 128));
    good.extend(chunks(3, 20, 0, &command("publish", 3.0, &[null(), string("k")]), 128));
    good.extend(chunks(6, 9, 0x0100_0000, &[0x17; 700], 128));
    let mut random = Random(1);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        let mut client = Client::open();
        for part in random.pieces(&bytes) {
            if client.feed(part).is_err() {
                break;
            }
            assert!(client.session.buffered_bytes() < STRANGER_BYTES_MAX);
        }
        assert!(client.media().is_empty(), "nothing passes before it is accepted");
    }
}
