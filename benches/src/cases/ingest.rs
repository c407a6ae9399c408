//! From the publisher's bytes to NAL units.
use std::time::Instant;

use bytes::Bytes;
use media::flv::VideoTag;
use media::h264::avcc::split_access_unit;
use rtmp::amf0::{self, Value};
use rtmp::chunk::Reader;
use rtmp::{Event, Limits, Output, Session};

use crate::lesson;

/// Bytes of one iteration: three seconds of the lesson.
const INPUT_BYTES: usize = 1_000_000;
/// Bytes that one read of the socket gives at most, as in `ingest/src/connection.rs`.
const READ_BYTES: usize = 32 << 10;

/// Chunks of `size` bytes into messages.
pub(crate) fn chunk(size: usize) -> Box<dyn FnMut() -> usize> {
    let limits = Limits::default();
    let input = lesson::chunks(INPUT_BYTES, size);
    Box::new(move || {
        let mut reader = Reader::new(limits.message_bytes, limits.chunk_streams, limits.partial_bytes);
        reader.set_size(size);
        let (mut rest, mut bytes) = (&input[..], 0);
        while let Some((used, message)) = reader.read(rest).expect("chunks of our own") {
            bytes += message.map_or(0, |message| message.body.len());
            rest = &rest[used..];
        }
        bytes
    })
}

/// The same through a whole session, as it comes from the socket.
pub(crate) fn session() -> Box<dyn FnMut() -> usize> {
    let now = Instant::now();
    let mut session = publishing(now);
    let input = lesson::chunks(INPUT_BYTES, 4096);
    Box::new(move || {
        let mut bytes = 0;
        for read in input.chunks(READ_BYTES) {
            session.handle_input(now, read).expect("a lesson");
            bytes += drain(&mut session);
        }
        bytes
    })
}

/// A session whose publisher has been accepted and sends chunks of 4096 bytes.
fn publishing(now: Instant) -> Session {
    let mut session = Session::new(now, Limits::default());
    session.handle_input(now, &[&[3][..], &[0; 2 * 1536]].concat()).expect("a handshake");
    let text = |text: &str| Value::String(text.to_owned());
    let app = Value::Object(vec![("app".to_owned(), text("live"))]);
    for (name, argument) in [("connect", app), ("createStream", Value::Null), ("publish", Value::Null)] {
        let mut body = Vec::new();
        for value in [text(name), Value::Number(1.0), argument, text("key")] {
            amf0::write(&value, &mut body);
        }
        let len = u8::try_from(body.len()).expect("one chunk");
        session
            .handle_input(now, &[&[3, 0, 0, 0, 0, 0, len, 20, 0, 0, 0, 0], &body[..]].concat())
            .expect(name);
    }
    session.accept_publish(now);
    session.handle_input(now, &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x10, 0]).expect("a chunk size");
    drain(&mut session);
    session
}

/// Takes every output; bytes of media among them.
fn drain(session: &mut Session) -> usize {
    let mut bytes = 0;
    loop {
        match session.poll_output() {
            Output::Event(Event::Media { body, .. }) => bytes += body.len(),
            Output::Timeout(_) => return bytes,
            Output::Send(_) | Output::Event(_) | Output::Close => {}
        }
    }
}

/// A group of video messages into NAL units.
pub(crate) fn split() -> Box<dyn FnMut() -> usize> {
    let messages: Vec<Bytes> = (0..lesson::GROUP).map(lesson::video_message).collect();
    Box::new(move || {
        let units = messages.iter().map(|body| match VideoTag::parse(body.clone()) {
            Ok(VideoTag::Frame { data, .. }) => split_access_unit(&data, 4).expect("a picture").len(),
            _ => 0,
        });
        units.sum()
    })
}
