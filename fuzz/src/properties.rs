use std::time::{Duration, Instant};

use rtmp::chunk::Reader;
use rtmp::{Error, Event, Limits, Output, Session};

/// Bytes of one message, as before publishing.
const MESSAGE_MAX: usize = 64 << 10;
/// Bytes of unfinished messages, as before publishing.
const PARTIAL_MAX: usize = 256 << 10;

/// Any bytes are values or an error, and values that are written and read again stay what they are.
pub fn amf0(bytes: &[u8]) {
    let some = rtmp::amf0::read_some(bytes);
    let Ok(values) = rtmp::amf0::read_all(bytes) else { return };
    assert_eq!(some.len(), values.len());
    let written = write(&values);
    let again = rtmp::amf0::read_all(&written).expect("what was written from values is values");
    // Compared as bytes: a number that is none is not equal to itself.
    assert!(written == write(&again));
}

/// Any bytes are chunks or an error, within their bounds, and however they arrive the messages are the same.
pub fn chunk(bytes: &[u8]) {
    let whole = messages(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert!(messages(bytes, piece) == whole, "in pieces of {piece}");
    }
}

/// Any bytes are a connection or an error, within the limits. The first byte says how they arrive: its lowest bit that
/// they begin with a handshake, the others how large the pieces are.
pub fn session(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let limits = Limits::default();
    let now = Instant::now();
    let mut session = Session::new(now, limits);
    if how & 1 == 0 {
        let handshake = [&[3][..], &[0; 2 * 1536]].concat();
        session.handle_input(now, &handshake).expect("a handshake");
    }
    let bound = limits.message_bytes + limits.partial_bytes + limits.output_bytes + MESSAGE_MAX;
    for piece in bytes.chunks(1 + usize::from(how >> 1)) {
        let outcome = session.handle_input(now, piece);
        let is_closed = drain(&mut session, now);
        assert!(session.buffered_bytes() <= bound);
        if is_closed || outcome.is_err() {
            return;
        }
    }
    let timeout = session.handle_timeout(now + Duration::from_secs(60));
    assert!(matches!(timeout, Err(Error::Timeout(_))), "silence ends every connection");
}

fn drain(session: &mut Session, now: Instant) -> bool {
    loop {
        match session.poll_output() {
            Output::Event(Event::PublishRequested(_)) => session.accept_publish(now),
            Output::Event(Event::Media { body, .. }) => assert!(!body.is_empty()),
            Output::Event(_) | Output::Send(_) => {}
            Output::Close => return true,
            Output::Timeout(_) => return false,
        }
    }
}

/// The messages of `bytes` that arrive in pieces, and the error that they end with.
fn messages(bytes: &[u8], piece: usize) -> (Vec<rtmp::chunk::Message>, Option<Error>) {
    let mut reader = Reader::new(MESSAGE_MAX, 16, PARTIAL_MAX);
    let (mut have, mut messages) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        have.extend_from_slice(part);
        let mut rest = &have[..];
        loop {
            match reader.read(rest) {
                Ok(Some((used, message))) => {
                    assert!(used > 0 && reader.buffered_bytes() <= PARTIAL_MAX);
                    assert!(message.as_ref().is_none_or(|message| message.body.len() <= MESSAGE_MAX));
                    rest = rest.get(used..).expect("no more is used than there was");
                    messages.extend(message);
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        have = rest.to_vec();
    }
    (messages, None)
}

fn write(values: &[rtmp::amf0::Value]) -> Vec<u8> {
    let mut written = Vec::new();
    values.iter().for_each(|value| rtmp::amf0::write(value, &mut written));
    written
}
