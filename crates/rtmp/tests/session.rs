//! Whole connections in virtual time, with a client that shares no code with the session.
#![expect(clippy::disallowed_methods, reason = "one real instant, to which virtual time is added")]

use std::time::{Duration, Instant};

use rtmp::amf0::{self, Value};
use rtmp::{Error, Event, Limits, MediaKind, Output, PublishRequest, Rejection, Session};

/// A publisher's side of the wire.
struct Client {
    session: Session,
    now: Instant,
    chunk_size: usize,
    sent: Vec<u8>,
    events: Vec<Event>,
    is_closed: bool,
}

impl Client {
    fn connect() -> Self {
        let now = Instant::now();
        let session = Session::new(now, Limits::default());
        Self { session, now, chunk_size: 128, sent: Vec::new(), events: Vec::new(), is_closed: false }
    }

    fn open() -> Self {
        let mut client = Self::connect();
        client.feed(&[&[3], &[7; 1536][..]].concat()).unwrap();
        client.feed(&[9; 1536]).unwrap();
        assert_eq!(client.sent.len(), 1 + 2 * 1536);
        client.sent.clear();
        client
    }

    fn publishing() -> Self {
        let mut client = Self::open();
        client.command("connect", 1.0, &[object(&[("app", "live")])]).unwrap();
        client.command("createStream", 4.0, &[Value::Null]).unwrap();
        client.command("publish", 5.0, &[Value::Null, text("key"), text("live")]).unwrap();
        client.session.accept_publish(client.now);
        client.drain();
        client.events.clear();
        client
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let outcome = self.session.handle_input(self.now, bytes);
        self.drain();
        outcome
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.is_closed = true,
                Output::Timeout(_) => return,
            }
        }
    }

    fn pass(&mut self, time: Duration) -> Result<(), Error> {
        self.now += time;
        self.session.handle_timeout(self.now)
    }

    fn message(&mut self, kind: u8, timestamp: u32, body: &[u8]) -> Result<(), Error> {
        let bytes = chunks(4, kind, timestamp, body, self.chunk_size);
        self.feed(&bytes)
    }

    fn command(&mut self, name: &str, transaction: f64, values: &[Value]) -> Result<(), Error> {
        let body = command(name, transaction, values);
        self.message(20, 0, &body)
    }

    fn says(&self, text: &str) -> bool {
        self.sent.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn media(&self) -> Vec<(u32, Vec<u8>)> {
        let media = self.events.iter().filter_map(|event| match event {
            Event::Media { timestamp_ms, body, .. } => Some((*timestamp_ms, body.to_vec())),
            _ => None,
        });
        media.collect()
    }
}

/// A full header, then headers of one byte, as RootEncoder writes every message.
fn chunks(id: u8, kind: u8, timestamp: u32, body: &[u8], size: usize) -> Vec<u8> {
    let field = timestamp.min(0xff_ffff).to_be_bytes();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut out = vec![id, field[1], field[2], field[3], len[1], len[2], len[3], kind, 1, 0, 0, 0];
    for (index, part) in body.chunks(size).enumerate() {
        if index > 0 {
            out.push(0xc0 | id);
        }
        if timestamp >= 0xff_ffff {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        out.extend_from_slice(part);
    }
    out
}

fn command(name: &str, transaction: f64, values: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    amf0::write(&text(name), &mut body);
    amf0::write(&Value::Number(transaction), &mut body);
    values.iter().for_each(|value| amf0::write(value, &mut body));
    body
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn object(properties: &[(&str, &str)]) -> Value {
    Value::Object(properties.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect())
}

#[test]
fn a_phone_that_sends_its_opening_at_once_gets_every_answer_with_its_transaction() {
    let mut client = Client::open();
    let opening = [
        chunks(3, 20, 0, &command("connect", 1.0, &[object(&[("app", "live"), ("flashVer", "phone")])]), 128),
        chunks(3, 20, 0, &command("releaseStream", 2.0, &[Value::Null, text("k")]), 128),
        chunks(3, 20, 0, &command("FCPublish", 3.0, &[Value::Null, text("k")]), 128),
        chunks(3, 20, 0, &command("createStream", 4.0, &[Value::Null]), 128),
    ];
    client.feed(&opening.concat()).unwrap();
    for transaction in [1.0, 2.0, 3.0, 4.0] {
        let expected = command("_result", transaction, &[]);
        assert!(client.sent.windows(expected.len()).any(|w| w == expected), "transaction {transaction}");
    }
    client.command("publish", 5.0, &[Value::Null, text("room101?key=S")]).unwrap();
    let expected = PublishRequest {
        app: "live".to_owned(),
        stream_key: "room101?key=S".to_owned(),
        encoder: "phone".to_owned(),
    };
    assert!(matches!(&client.events[..], [Event::PublishRequested(request)] if *request == expected));
    client.session.accept_publish(client.now);
    client.drain();
    assert!(client.says("NetStream.Publish.Start"));
}

#[test]
fn a_refused_publisher_is_told_with_a_code_that_phones_know() {
    for (rejection, code) in [
        (Rejection::BadName("wrong key".to_owned()), "NetStream.Publish.BadName"),
        (Rejection::Failed("H.265".to_owned()), "NetStream.Publish.Failed"),
    ] {
        let mut client = Client::publishing();
        client.session.reject_publish(&rejection);
        client.drain();
        assert!(client.says(code) && client.is_closed);
    }
}

#[test]
fn chunk_streams_interleave() {
    let mut client = Client::publishing();
    let (video, audio) = (vec![0x17; 300], vec![0xaf; 200]);
    let video_chunks = chunks(6, 9, 40, &video, 128);
    let audio_chunks = chunks(4, 8, 41, &audio, 128);
    let (v1, v2) = video_chunks.split_at(12 + 128);
    let (a1, a2) = audio_chunks.split_at(12 + 128);
    client.feed(&[v1, a1, v2, a2].concat()).unwrap();
    assert_eq!(client.media(), [(40, video), (41, audio)]);
}

#[test]
fn bytes_may_arrive_one_by_one() {
    let mut client = Client::publishing();
    let body: Vec<u8> = (0..1000_u32).map(|i| u8::try_from(i % 256).unwrap()).collect();
    for byte in chunks(6, 9, 0x0100_0000, &body, 128) {
        client.feed(&[byte]).unwrap();
    }
    assert_eq!(client.media(), [(0x0100_0000, body)]);
}

#[test]
fn extended_timestamps_are_understood_with_and_without_their_repetition() {
    for timestamp in [0xff_fffe, 0xff_ffff, 0x0100_0000, u32::MAX] {
        let body = vec![0xaf; 300];
        let mut client = Client::publishing();
        client.message(8, timestamp, &body).unwrap();
        assert_eq!(client.media(), [(timestamp, body.clone())]);
        // Old librtmp leaves the four bytes out of the chunks that continue.
        let mut client = Client::publishing();
        let whole = chunks(4, 8, timestamp, &body, 128);
        let extra = if timestamp >= 0xff_ffff { 4 } else { 0 };
        let mut old = whole[..12 + extra + 128].to_vec();
        for part in body[128..].chunks(128) {
            old.push(0xc4);
            old.extend_from_slice(part);
        }
        client.feed(&old).unwrap();
        client.message(8, 5, &[0xaf, 1, 2]).unwrap();
        assert_eq!(client.media(), [(timestamp, body), (5, vec![0xaf, 1, 2])]);
    }
}

#[test]
fn a_type_3_chunk_that_begins_a_message_adds_the_step_before() {
    let mut client = Client::publishing();
    client.message(8, 20, &[0xaf, 1, 1]).unwrap();
    client.feed(&[0xc4, 0xaf, 1, 2]).unwrap();
    client.feed(&[0x84, 0, 0, 23, 0xaf, 1, 3]).unwrap();
    client.feed(&[0xc4, 0xaf, 1, 4]).unwrap();
    let times: Vec<u32> = client.media().into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [20, 40, 63, 86]);
}

#[test]
fn every_way_of_ending_is_an_end() {
    for name in ["closeStream", "FCUnpublish", "deleteStream"] {
        let mut client = Client::publishing();
        client.command(name, 0.0, &[Value::Null]).unwrap();
        assert!(matches!(client.events[..], [Event::PublishEnded]), "{name}");
        assert!(client.is_closed);
    }
}

#[test]
fn silence_ends_each_phase_at_its_time() {
    let seconds = Duration::from_secs;
    let mut client = Client::connect();
    assert!(client.pass(seconds(4)).is_ok());
    assert_eq!(client.pass(seconds(1)), Err(Error::Timeout("handshake")));
    let mut client = Client::open();
    client.command("connect", 1.0, &[]).unwrap();
    assert!(client.pass(seconds(9)).is_ok());
    assert!(client.pass(seconds(1)).is_err());
    let mut client = Client::publishing();
    assert!(client.pass(seconds(14)).is_ok());
    client.message(8, 0, &[0xaf, 1]).unwrap();
    assert!(client.pass(seconds(14)).is_ok());
    assert_eq!(client.pass(seconds(1)), Err(Error::Timeout("media")));
}

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
fn aggregates_amf3_framing_and_pings_are_understood() {
    let mut client = Client::publishing();
    let tag = |kind: u8, time: u8, body: &[u8]| {
        let head = [kind, 0, 0, u8::try_from(body.len()).unwrap(), 0, 0, time, 0, 0, 0, 0];
        [&head[..], body, &[0, 0, 0, 14]].concat()
    };
    client.message(22, 1000, &[tag(8, 10, &[0xaf, 1, 1]), tag(9, 33, &[0x27, 1, 2])].concat()).unwrap();
    assert_eq!(client.media(), [(1000, vec![0xaf, 1, 1]), (1023, vec![0x27, 1, 2])]);
    client.sent.clear();
    client.message(4, 0, &[0, 6, 1, 2, 3, 4]).unwrap();
    assert!(client.sent.ends_with(&[0, 7, 1, 2, 3, 4]));
    let mut amf3 = vec![0];
    amf3.extend(command("deleteStream", 0.0, &[Value::Null]));
    client.message(17, 0, &amf3).unwrap();
    assert!(matches!(client.events.last(), Some(Event::PublishEnded)));
}

#[test]
fn metadata_is_reported_and_needs_no_values() {
    let mut client = Client::publishing();
    let mut body = Vec::new();
    amf0::write(&text("@setDataFrame"), &mut body);
    client.message(18, 0, &body).unwrap();
    assert!(client.events.is_empty());
    amf0::write(&text("onMetaData"), &mut body);
    amf0::write(&object(&[("encoder", "x")]), &mut body);
    client.message(18, 0, &body).unwrap();
    assert!(matches!(&client.events[..], [Event::Metadata(properties)] if properties.len() == 1));
}

#[test]
fn media_before_the_answer_is_kept_within_bounds() {
    let mut client = Client::open();
    client.command("connect", 1.0, &[]).unwrap();
    client.command("createStream", 2.0, &[]).unwrap();
    client.command("publish", 3.0, &[Value::Null, text("k")]).unwrap();
    client.message(9, 0, &[0x17, 0, 0, 0, 0, 1]).unwrap();
    for time in 1..1000 {
        client.message(8, time, &[0xaf; 1000]).unwrap();
    }
    assert!(client.session.buffered_bytes() < 128 << 10);
    client.session.accept_publish(client.now);
    client.drain();
    assert_eq!(client.media()[0], (0, vec![0x17, 0, 0, 0, 0, 1]), "the configuration is not lost");
}

#[test]
fn other_protocols_are_refused_by_name_at_their_first_byte() {
    for (bytes, hint) in [(&b"GET / HTTP/1.1\r\n"[..], "HTTP"), (&[6; 100], "rtmpe"), (&[0x16, 3, 1], "TLS")]
    {
        let error = Client::connect().feed(bytes).unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn nested_values_end_the_connection_and_not_the_process() {
    for marker in [[3_u8, 0, 1, b'a'].as_slice(), &[0x0a, 0, 0, 0, 1], &[8, 0, 0, 0, 1, 0, 1, b'a']] {
        let mut client = Client::open();
        let mut body = command("connect", 1.0, &[]);
        body.extend(marker.repeat(60_000 / marker.len()));
        assert!(matches!(client.message(20, 0, &body), Err(Error::Amf(_))));
    }
    let mut client = Client::publishing();
    let mut body = Vec::new();
    amf0::write(&text("onMetaData"), &mut body);
    body.extend([3, 0, 1, b'a'].repeat(100_000));
    client.message(18, 0, &body).unwrap();
    assert!(client.events.is_empty(), "metadata is worth what can be read of it");
}

#[test]
fn hostile_chunks_are_errors_within_bounds() {
    let big = |id: u8| [id, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
    assert!(matches!(Client::open().feed(&big(4)), Err(Error::MessageTooLarge { .. })));
    assert!(matches!(Client::publishing().feed(&big(4)), Err(Error::MessageTooLarge { .. })));
    for size in [0_u32, 0x8000_0000] {
        assert!(matches!(Client::open().message(1, 0, &size.to_be_bytes()), Err(Error::Control { .. })));
    }
    Client::open().message(1, 0, &0x7fff_ffff_u32.to_be_bytes()).unwrap();
    for len in 0..4 {
        for kind in [1, 2, 5] {
            let outcome = Client::open().message(kind, 0, &vec![0; len]);
            assert!(len == 0 || matches!(outcome, Err(Error::Control { .. })), "type {kind}, {len} bytes");
        }
    }
    assert!(matches!(Client::open().feed(&[0xc5]), Err(Error::NoHeader(5))));
    let mut client = Client::open();
    let mut outcome = Ok(());
    for id in 0..=u16::MAX {
        let [low, high] = id.to_le_bytes();
        outcome = client.feed(&[1, low, high, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0, 1, 2, 3]);
        if outcome.is_err() {
            break;
        }
    }
    assert!(outcome.is_err());
    assert!(client.session.buffered_bytes() < 1 << 20);
}

#[test]
fn an_aborted_message_is_forgotten_and_the_next_is_read() {
    let mut client = Client::publishing();
    let whole = chunks(6, 9, 0, &[0x27; 300], 128);
    client.feed(&whole[..12 + 128]).unwrap();
    client.feed(&chunks(2, 2, 0, &6_u32.to_be_bytes(), 128)).unwrap();
    assert_eq!(client.session.buffered_bytes(), 0);
    client.feed(&chunks(6, 9, 7, &[0x27; 10], 128)).unwrap();
    assert_eq!(client.media(), [(7, vec![0x27; 10])]);
}

#[test]
fn floods_of_commands_and_a_peer_that_never_reads_are_ended() {
    let mut client = Client::open();
    let flood = (0..300).find_map(|_| client.command("createStream", 1.0, &[]).err());
    assert_eq!(flood, Some(Error::TooManyCommands(256)));
    let mut session = Client::open();
    let pings: Vec<u8> = (0..20_000).flat_map(|_| chunks(2, 4, 0, &[0, 6, 0, 0, 0, 0], 128)).collect();
    assert!(matches!(session.session.handle_input(session.now, &pings), Err(Error::NotReading(_))));
}

#[test]
fn publishing_without_a_stream_and_twice_is_refused() {
    let mut client = Client::open();
    client.command("publish", 1.0, &[Value::Null, text("k")]).unwrap();
    assert!(client.says("NetStream.Publish.BadName") && client.is_closed && client.events.is_empty());
    let mut client = Client::publishing();
    client.command("publish", 1.0, &[Value::Null, text("k")]).unwrap();
    assert!(client.says("already publishes") && client.events.is_empty());
    client.message(8, 1, &[0xaf, 1]).unwrap();
    assert_eq!(client.media().len(), 1, "the stream goes on");
    let mut client = Client::open();
    client.command("play", 1.0, &[Value::Null, text("k")]).unwrap();
    assert!(client.says("NetStream.Play.Failed") && client.is_closed);
}

#[test]
fn changed_bytes_never_panic_nor_grow_memory() {
    let mut good = chunks(3, 20, 0, &command("connect", 1.0, &[object(&[("app", "live")])]), 128);
    good.extend(chunks(3, 20, 0, &command("createStream", 2.0, &[Value::Null]), 128));
    good.extend(chunks(3, 20, 0, &command("publish", 3.0, &[Value::Null, text("k")]), 128));
    good.extend(chunks(6, 9, 0x0100_0000, &[0x17; 700], 128));
    let mut state = 1_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() % 256).unwrap();
        }
        let mut client = Client::open();
        for part in bytes.chunks(1 + random() % 400) {
            if client.feed(part).is_err() {
                break;
            }
            assert!(client.session.buffered_bytes() < 1 << 20);
        }
        let is_media =
            |event: &Event| matches!(event, Event::Media { kind: MediaKind::Audio | MediaKind::Video, .. });
        assert!(!client.events.iter().any(is_media), "nothing passes before it is accepted");
    }
}
