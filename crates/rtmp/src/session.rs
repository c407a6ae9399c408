//! The session: handshake, chunks, commands and media of one connection (section 7).
use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;

use crate::amf0::{self, Value};
use crate::chunk::{Message, Reader};
use crate::command::{self, Command};
use crate::handshake::Handshake;
use crate::message;
use crate::outbox::Outbox;
use crate::{Error, Event, Limits, MediaKind, Output, Phase, PublishRequest, Rejection};

/// The message stream that every publisher of a connection gets.
const STREAM: u32 = 1;
/// How many received bytes we acknowledge at once (section 5.4.3), and the bandwidth that we suggest.
const WINDOW: u32 = 2_500_000;
/// What comes before the publisher is accepted is kept up to this many messages: metadata and sequence headers mostly.
const EARLY_MESSAGES_MAX: usize = 32;
/// Bytes of the same.
const EARLY_BYTES_MAX: usize = 64 << 10;
/// Our chunk size from the answer to `connect` on: every answer fits into one chunk, as the simplest readers want it.
const CHUNK_SIZE: u16 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    /// Commands are exchanged.
    Open,
    /// The shell decides about a publisher.
    Deciding,
    Publishing,
    Closing,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    state: State,
    handshake: Handshake,
    input: BytesMut,
    reader: Reader,
    outbox: Outbox,
    deadline: Instant,
    request: PublishRequest,
    has_stream: bool,
    commands: usize,
    early: VecDeque<Message>,
    received: u64,
    acknowledged: u64,
    window: u64,
}

impl Session {
    /// A connection that has just been accepted.
    pub fn new(now: Instant, limits: Limits) -> Self {
        Self {
            state: State::Handshake,
            handshake: Handshake::Hello,
            input: BytesMut::new(),
            reader: Reader::new(
                limits.message_bytes_before_publish,
                limits.chunk_streams,
                limits.partial_bytes.min(limits.message_bytes_before_publish.saturating_mul(4)),
            ),
            outbox: Outbox::default(),
            deadline: now.checked_add(limits.handshake_timeout).unwrap_or(now),
            request: PublishRequest::default(),
            has_stream: false,
            commands: 0,
            early: VecDeque::new(),
            received: 0,
            acknowledged: 0,
            window: u64::from(WINDOW),
            limits,
        }
    }

    /// Feeds received bytes. An error ends the connection, after the outputs that are left.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Error> {
        if self.state == State::Closing {
            return Ok(());
        }
        self.received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        if self.state == State::Publishing {
            self.deadline = now.checked_add(self.limits.idle_timeout).unwrap_or(now);
        }
        self.input.extend_from_slice(bytes);
        let outcome = self.consume(now);
        self.acknowledge();
        self.outbox.flush();
        outcome
    }

    /// To be called at the time that the last output named.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if now < self.deadline || self.state == State::Closing {
            return Ok(());
        }
        Err(Error::Timeout(match self.state {
            State::Handshake => Phase::Handshake,
            State::Open | State::Deciding => Phase::Publish,
            State::Publishing | State::Closing => Phase::Media,
        }))
    }

    /// The next thing to do. To be called until it says [`Output::Timeout`].
    pub fn poll_output(&mut self) -> Output {
        self.outbox.pop().unwrap_or(Output::Timeout(self.deadline))
    }

    /// Lets the publisher begin.
    pub fn accept_publish(&mut self, now: Instant) {
        if self.state != State::Deciding {
            return;
        }
        self.state = State::Publishing;
        self.deadline = now.checked_add(self.limits.idle_timeout).unwrap_or(now);
        self.reader.set_partial_max(self.limits.partial_bytes);
        self.outbox.control(message::USER_CONTROL, &message::user_control(message::STREAM_BEGIN, STREAM));
        self.status("status", "NetStream.Publish.Start", "Publishing.");
        for message in std::mem::take(&mut self.early) {
            match message.kind {
                message::AUDIO | message::VIDEO => self.on_media(message),
                _ => self.on_data(message),
            }
        }
        self.outbox.flush();
    }

    /// Refuses the publisher, at once or in the midst of its stream, and closes. Phones notice no other codes than
    /// these two.
    pub fn reject_publish(&mut self, rejection: &Rejection) {
        if self.state == State::Closing {
            return;
        }
        match rejection {
            Rejection::BadName(text) => self.status("error", "NetStream.Publish.BadName", text),
            Rejection::Failed(text) => self.status("error", "NetStream.Publish.Failed", text),
        }
        self.close();
    }

    /// Bytes that are kept for this connection.
    pub fn buffered_bytes(&self) -> usize {
        [self.input.len(), self.reader.buffered_bytes(), self.outbox.bytes(), self.early_bytes()]
            .iter()
            .fold(0, |sum: usize, part| sum.saturating_add(*part))
    }

    fn early_bytes(&self) -> usize {
        self.early.iter().fold(0, |sum, message| sum.saturating_add(message.body.len()))
    }

    fn close(&mut self) {
        self.state = State::Closing;
        self.outbox.close();
        self.input = BytesMut::new();
    }

    fn consume(&mut self, now: Instant) -> Result<(), Error> {
        while !self.handshake.is_done() {
            let (used, reply) = self.handshake.advance(&self.input)?;
            if let Some(reply) = reply {
                self.outbox.raw(&reply);
            }
            if used == 0 {
                return Ok(());
            }
            let _ = self.input.split_to(used);
            if self.handshake.is_done() {
                self.state = State::Open;
                self.deadline = now.checked_add(self.limits.publish_timeout).unwrap_or(now);
            }
        }
        while self.state != State::Closing {
            let Some((used, message)) = self.reader.read(&self.input)? else { break };
            let _ = self.input.split_to(used);
            if let Some(message) = message {
                self.on_message(message)?;
            }
            if self.outbox.bytes() > self.limits.output_bytes {
                return Err(Error::NotReading(self.limits.output_bytes));
            }
        }
        Ok(())
    }

    fn on_message(&mut self, message: Message) -> Result<(), Error> {
        match message.kind {
            message::SET_CHUNK_SIZE => {
                let size = control_value(&message)?;
                // Section 5.4.1: the first bit must be zero; and a chunk holds at least a byte.
                if size == 0 || size > 0x7fff_ffff {
                    return Err(Error::Control { kind: message.kind, len: message.body.len() });
                }
                self.reader.set_size(usize::try_from(size).unwrap_or(usize::MAX));
            }
            message::ABORT => self.reader.abort(control_value(&message)?),
            message::WINDOW_SIZE => {
                // Acknowledging more often than every 4 kB would be an amplifier.
                self.window = u64::from(control_value(&message)?.clamp(4096, WINDOW));
            }
            message::USER_CONTROL => self.on_user_control(&message),
            message::AUDIO | message::VIDEO => self.on_media(message),
            message::AGGREGATE => {
                for part in message::split_aggregate(&message) {
                    if matches!(part.kind, message::AUDIO | message::VIDEO) {
                        self.on_media(part);
                    }
                }
            }
            // Only media grows with the permission to publish: no encoder has that much to say.
            message::DATA_AMF0 | message::DATA_AMF3 | message::COMMAND_AMF0 | message::COMMAND_AMF3
                if message.body.len() > self.limits.message_bytes_before_publish => {}
            message::DATA_AMF0 | message::DATA_AMF3 => self.on_data(message),
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => self.on_command(&message)?,
            // Acknowledgements, bandwidth, shared objects, and what nobody has defined.
            _ => {}
        }
        Ok(())
    }

    fn on_user_control(&mut self, message: &Message) {
        if let Some(([e0, e1], rest)) = message.body.split_first_chunk::<2>()
            && u16::from_be_bytes([*e0, *e1]) == message::PING_REQUEST
            && let Some(time) = rest.first_chunk::<4>()
        {
            let pong = message::user_control(message::PING_RESPONSE, u32::from_be_bytes(*time));
            self.outbox.control(message::USER_CONTROL, &pong);
        }
    }

    fn on_media(&mut self, message: Message) {
        let kind = if message.kind == message::AUDIO { MediaKind::Audio } else { MediaKind::Video };
        match self.state {
            // Some servers mark pauses with empty messages, and gateways pass them on.
            _ if message.body.is_empty() => {}
            State::Publishing => self.outbox.event(Event::Media {
                kind,
                timestamp_ms: message.timestamp_ms,
                body: message.body,
            }),
            State::Open | State::Deciding => self.keep(message),
            _ => {}
        }
    }

    /// Keeps a message until the publisher is accepted.
    fn keep(&mut self, message: Message) {
        let bytes = self.early_bytes().saturating_add(message.body.len());
        if self.early.len() < EARLY_MESSAGES_MAX && bytes <= EARLY_BYTES_MAX {
            self.early.push_back(message);
        }
    }

    fn on_data(&mut self, message: Message) {
        match self.state {
            State::Publishing => {}
            State::Open | State::Deciding => return self.keep(message),
            _ => return,
        }
        let body = match message.body.split_first() {
            Some((0, rest)) if message.kind == message::DATA_AMF3 => rest,
            _ => &message.body,
        };
        let values = amf0::read_some(body);
        let mut values = values.into_iter().skip_while(|value| value.as_str() == Some("@setDataFrame"));
        if values.next().as_ref().and_then(Value::as_str) == Some("onMetaData")
            && let Some(Value::Object(properties)) = values.next()
        {
            self.outbox.event(Event::Metadata(properties));
        }
    }

    fn on_command(&mut self, message: &Message) -> Result<(), Error> {
        if self.state != State::Publishing {
            self.commands = self.commands.saturating_add(1);
            if self.commands > self.limits.commands_before_publish {
                return Err(Error::TooManyCommands(self.limits.commands_before_publish));
            }
        }
        let parsed = Command::parse(&message.body, message.kind == message::COMMAND_AMF3);
        let Some(command) = parsed? else { return Ok(()) };
        match &*command.name {
            "connect" => self.on_connect(&command),
            "createStream" => {
                self.has_stream = true;
                self.outbox.reply(&command::result(
                    command.transaction,
                    &[Value::Null, Value::Number(f64::from(STREAM))],
                ));
            }
            "publish" => self.on_publish(&command),
            "play" | "play2" => {
                self.status(
                    "error",
                    "NetStream.Play.Failed",
                    "Lessons are watched in a browser, not by RTMP.",
                );
                self.close();
            }
            "releaseStream" | "_checkbw" | "getStreamLength" => {
                self.outbox.reply(&command::result(command.transaction, &[Value::Null, Value::Null]));
            }
            "FCPublish" => {
                self.outbox.reply(&command::result(command.transaction, &[Value::Null, Value::Null]));
                let name = command.text(1).unwrap_or_default();
                let info = command::info("status", "NetStream.Publish.Start", &name);
                self.outbox.reply(&command::command("onFCPublish", 0.0, &[Value::Null, info]));
            }
            "FCUnpublish" => {
                self.outbox.reply(&command::result(command.transaction, &[Value::Null, Value::Null]));
                self.end_publish();
            }
            "deleteStream" | "closeStream" => self.end_publish(),
            _ => {}
        }
        Ok(())
    }

    /// Section 7.2.1.1. Encoders wait for the window and bandwidth messages as well as for the result.
    fn on_connect(&mut self, command: &Command) {
        self.request.app = command.property("app").unwrap_or_default();
        self.request.encoder = command.property("flashVer").unwrap_or_default();
        self.outbox.control(message::WINDOW_SIZE, &WINDOW.to_be_bytes());
        let [w0, w1, w2, w3] = WINDOW.to_be_bytes();
        // Section 5.4.5: limit type 2 is "dynamic".
        self.outbox.control(message::PEER_BANDWIDTH, &[w0, w1, w2, w3, 2]);
        self.outbox.set_chunk_size(CHUNK_SIZE);
        self.outbox.reply(&command::connected(command));
    }

    /// Section 7.2.2.6. The type - live, record, append - is often missing and never matters.
    fn on_publish(&mut self, command: &Command) {
        if self.state != State::Open {
            return self.status(
                "error",
                "NetStream.Publish.BadName",
                "This connection already publishes a stream.",
            );
        }
        if !self.has_stream {
            self.status("error", "NetStream.Publish.BadName", "publish came before createStream.");
            return self.close();
        }
        self.request.stream_key = command.text(1).unwrap_or_default();
        self.state = State::Deciding;
        // Who does not wait for the answer may have begun its first keyframe behind the command; what is kept of it is bounded
        // as before.
        self.reader.message_max = self.limits.message_bytes;
        self.outbox.event(Event::PublishRequested(self.request.clone()));
    }

    fn end_publish(&mut self) {
        if matches!(self.state, State::Publishing | State::Deciding) {
            self.outbox.event(Event::PublishEnded);
            self.status("status", "NetStream.Unpublish.Success", "The stream has ended.");
            self.close();
        }
    }

    /// Section 5.4.3: every so many bytes are acknowledged.
    fn acknowledge(&mut self) {
        if self.received.saturating_sub(self.acknowledged) >= self.window && self.handshake.is_done() {
            self.acknowledged = self.received;
            let [.., s0, s1, s2, s3] = self.received.to_be_bytes();
            self.outbox.control(message::ACKNOWLEDGEMENT, &[s0, s1, s2, s3]);
        }
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        self.outbox.status(STREAM, level, code, description);
    }
}

fn control_value(message: &Message) -> Result<u32, Error> {
    let value = message.body.first_chunk::<4>().map(|value| u32::from_be_bytes(*value));
    value.ok_or(Error::Control { kind: message.kind, len: message.body.len() })
}
