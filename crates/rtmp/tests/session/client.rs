//! A publisher in virtual time, which shares no code with the session.
use std::time::{Duration, Instant};

use rtmp::{Error, Event, Limits, Output, Session};

use crate::amf::{command, null, object, string};

/// A publisher's side of the wire.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    pub(crate) chunk_size: usize,
    pub(crate) sent: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) is_closed: bool,
}

impl Client {
    pub(crate) fn connect() -> Self {
        let now = Instant::now();
        let session = Session::new(now, Limits::default());
        Self { session, now, chunk_size: 128, sent: Vec::new(), events: Vec::new(), is_closed: false }
    }

    /// After the handshake.
    pub(crate) fn open() -> Self {
        let mut client = Self::connect();
        client.feed(&[&[3], &[7; 1536][..]].concat()).unwrap();
        assert!(client.sent.ends_with(&[7; 1536]), "S2 is the echo of C1");
        client.feed(&[9; 1536]).unwrap();
        assert_eq!(client.sent.len(), 1 + 2 * 1536);
        client.sent.clear();
        client
    }

    /// After `publish`, before its answer.
    pub(crate) fn waiting() -> Self {
        let mut client = Self::open();
        client.command("connect", 1.0, &[object(&[("app", string("live"))])]).unwrap();
        client.command("createStream", 4.0, &[null()]).unwrap();
        client.command("publish", 5.0, &[null(), string("key"), string("live")]).unwrap();
        assert!(matches!(client.events[..], [Event::PublishRequested(_)]));
        client.events.clear();
        client
    }

    pub(crate) fn publishing() -> Self {
        let mut client = Self::waiting();
        client.accept();
        client
    }

    pub(crate) fn accept(&mut self) {
        self.session.accept_publish(self.now);
        self.drain();
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let outcome = self.session.handle_input(self.now, bytes);
        self.drain();
        outcome
    }

    pub(crate) fn drain(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.is_closed = true,
                Output::Timeout(_) => return,
            }
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), Error> {
        self.now += time;
        self.session.handle_timeout(self.now)
    }

    pub(crate) fn message(&mut self, kind: u8, timestamp: u32, body: &[u8]) -> Result<(), Error> {
        let bytes = chunks(4, kind, timestamp, body, self.chunk_size);
        self.feed(&bytes)
    }

    pub(crate) fn command(&mut self, name: &str, transaction: f64, values: &[Vec<u8>]) -> Result<(), Error> {
        self.message(20, 0, &command(name, transaction, values))
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        self.sent.windows(text.len()).any(|window| window == text.as_bytes())
    }

    pub(crate) fn media(&self) -> Vec<(u32, Vec<u8>)> {
        let media = self.events.iter().filter_map(|event| match event {
            Event::Media { timestamp_ms, body, .. } => Some((*timestamp_ms, body.to_vec())),
            _ => None,
        });
        media.collect()
    }

    /// What was answered, as the simplest reader reads it: full headers only, one message after the other.
    pub(crate) fn replies(&self) -> Vec<Reply> {
        let (mut rest, mut size, mut replies) = (&self.sent[..], 128, Vec::new());
        while let [basic, _, _, _, l0, l1, l2, kind, _, _, _, _, ..] = *rest {
            assert!(basic & 0x3f > 1 && basic < 0x40, "a full header with an id of one byte");
            let mut left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let mut body = Vec::new();
            rest = &rest[12..];
            loop {
                let (part, after) = rest.split_at(left.min(size));
                body.extend_from_slice(part);
                left -= part.len();
                rest = after;
                if left == 0 {
                    break;
                }
                assert_eq!(rest[0], 0xc0 | basic, "the same message goes on");
                rest = &rest[1..];
            }
            if kind == 1 {
                size = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
            }
            replies.push(Reply { kind, body });
        }
        assert!(rest.is_empty(), "half a message");
        replies
    }
}

/// One message of the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Whether it is this command with this transaction.
    pub(crate) fn is_command(&self, name: &str, transaction: f64) -> bool {
        self.kind == 20 && self.body.starts_with(&command(name, transaction, &[]))
    }
}

/// A full header, then headers of one byte, as RootEncoder writes every message.
pub(crate) fn chunks(id: u8, kind: u8, timestamp: u32, body: &[u8], size: usize) -> Vec<u8> {
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
