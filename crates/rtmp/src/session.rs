//! The session: handshake, chunks, commands and media of one connection (section 7).
use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::amf0::{self, Value};
use crate::chunk::{Message, Reader, Writer};
use crate::command::{self, Command};
use crate::handshake::Handshake;
use crate::message;
use crate::{Error, Limits};

/// The message stream that every publisher of a connection gets.
const STREAM: u32 = 1;
/// How many received bytes we acknowledge at once (section 5.4.3), and the bandwidth that we suggest.
const WINDOW: u32 = 2_500_000;
/// Media that comes before the publisher is accepted is kept up to this many messages: sequence headers mostly.
const EARLY_MESSAGES_MAX: usize = 32;
/// Bytes of the same.
const EARLY_BYTES_MAX: usize = 64 << 10;
/// Chunk streams for our own messages: section 5.4 reserves 2, the others are custom.
const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const STATUS_CHUNKS: u8 = 5;

/// What the shell is to do.
#[derive(Debug)]
pub enum Output {
    /// Write these bytes.
    Send(Bytes),
    /// Something happened.
    Event(Event),
    /// Close the connection once everything is written.
    Close,
    /// Nothing more now; call [`Session::handle_timeout`] at this time.
    Timeout(Instant),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants to publish: answer with [`Session::accept_publish`] or [`Session::reject_publish`].
    PublishRequested(PublishRequest),
    /// Media.
    Media {
        /// Sound or picture.
        kind: MediaKind,
        /// Milliseconds, modulo 2^32, from wherever the publisher counts.
        timestamp_ms: u32,
        /// The body of an FLV tag.
        body: Bytes,
    },
    /// What the encoder says of itself. Never to be trusted over the streams themselves.
    Metadata(Vec<(String, Value)>),
    /// The publisher has ended its stream.
    PublishEnded,
}

/// The kinds of media message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// An FLV audio tag.
    Audio,
    /// An FLV video tag.
    Video,
}

/// Who wants to publish what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishRequest {
    /// The application, as sent.
    pub app: String,
    /// The stream key, as sent.
    pub stream_key: String,
    /// What the encoder calls itself.
    pub encoder: String,
}

/// Why a publisher is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The key is wrong, or there is no such class.
    BadName(String),
    /// Anything else, in words for a teacher.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
    phase: Phase,
    handshake: Handshake,
    input: BytesMut,
    reader: Reader,
    writer: Writer,
    output: VecDeque<Output>,
    output_bytes: usize,
    pending: Vec<u8>,
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
            phase: Phase::Handshake,
            handshake: Handshake::Hello,
            input: BytesMut::new(),
            reader: Reader::new(
                limits.message_bytes_before_publish,
                limits.chunk_streams,
                limits.partial_bytes.min(limits.message_bytes_before_publish.saturating_mul(4)),
            ),
            writer: Writer::default(),
            output: VecDeque::new(),
            output_bytes: 0,
            pending: Vec::new(),
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
        if self.phase == Phase::Closing {
            return Ok(());
        }
        self.received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        if self.phase == Phase::Publishing {
            self.deadline = now.checked_add(self.limits.idle_timeout).unwrap_or(now);
        }
        self.input.extend_from_slice(bytes);
        let outcome = self.consume(now);
        self.acknowledge();
        self.flush();
        outcome
    }

    /// To be called at the time that the last output named.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if now < self.deadline || self.phase == Phase::Closing {
            return Ok(());
        }
        Err(Error::Timeout(match self.phase {
            Phase::Handshake => "handshake",
            Phase::Open | Phase::Deciding => "stream was published",
            Phase::Publishing | Phase::Closing => "media",
        }))
    }

    /// The next thing to do. To be called until it says [`Output::Timeout`].
    pub fn poll_output(&mut self) -> Output {
        match self.output.pop_front() {
            Some(Output::Send(bytes)) => {
                self.output_bytes = self.output_bytes.saturating_sub(bytes.len());
                Output::Send(bytes)
            }
            Some(output) => output,
            None => Output::Timeout(self.deadline),
        }
    }

    /// Lets the publisher begin.
    pub fn accept_publish(&mut self, now: Instant) {
        if self.phase != Phase::Deciding {
            return;
        }
        self.phase = Phase::Publishing;
        self.deadline = now.checked_add(self.limits.idle_timeout).unwrap_or(now);
        self.reader.message_max = self.limits.message_bytes;
        self.reader.set_partial_max(self.limits.partial_bytes);
        self.control(message::USER_CONTROL, &user_control(message::STREAM_BEGIN, STREAM));
        self.status("status", "NetStream.Publish.Start", "Publishing.");
        for message in std::mem::take(&mut self.early) {
            self.on_media(message);
        }
        self.flush();
    }

    /// Refuses the publisher and closes. Phones notice no other codes than these two.
    pub fn reject_publish(&mut self, rejection: &Rejection) {
        match rejection {
            Rejection::BadName(text) => self.status("error", "NetStream.Publish.BadName", text),
            Rejection::Failed(text) => self.status("error", "NetStream.Publish.Failed", text),
        }
        self.close();
    }

    /// Bytes that are kept for this connection.
    pub fn buffered_bytes(&self) -> usize {
        [self.input.len(), self.reader.buffered_bytes(), self.output_bytes, self.early_bytes()]
            .iter()
            .fold(0, |sum: usize, part| sum.saturating_add(*part))
    }

    fn early_bytes(&self) -> usize {
        self.early.iter().fold(0, |sum, message| sum.saturating_add(message.body.len()))
    }

    fn close(&mut self) {
        self.phase = Phase::Closing;
        self.flush();
        self.output.push_back(Output::Close);
        self.input = BytesMut::new();
    }

    fn consume(&mut self, now: Instant) -> Result<(), Error> {
        while !self.handshake.is_done() {
            let (used, reply) = self.handshake.advance(&self.input)?;
            if let Some(reply) = reply {
                self.pending.extend_from_slice(&reply);
            }
            if used == 0 {
                return Ok(());
            }
            let _ = self.input.split_to(used);
            if self.handshake.is_done() {
                self.phase = Phase::Open;
                self.deadline = now.checked_add(self.limits.publish_timeout).unwrap_or(now);
            }
        }
        while self.phase != Phase::Closing {
            let Some((used, message)) = self.reader.read(&self.input)? else { break };
            let _ = self.input.split_to(used);
            if let Some(message) = message {
                self.on_message(message)?;
            }
            if self.output_bytes.saturating_add(self.pending.len()) > self.limits.output_bytes {
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
            message::ACKNOWLEDGEMENT | message::PEER_BANDWIDTH => {}
            message::USER_CONTROL => self.on_user_control(&message),
            message::AUDIO | message::VIDEO => self.on_media(message),
            message::AGGREGATE => {
                for part in message::split_aggregate(&message) {
                    if matches!(part.kind, message::AUDIO | message::VIDEO) {
                        self.on_media(part);
                    }
                }
            }
            message::DATA_AMF0 | message::DATA_AMF3 => self.on_data(&message),
            message::COMMAND_AMF0 | message::COMMAND_AMF3 => self.on_command(&message)?,
            // Shared objects and what nobody has defined.
            _ => {}
        }
        Ok(())
    }

    fn on_user_control(&mut self, message: &Message) {
        if let Some(([e0, e1], rest)) = message.body.split_first_chunk::<2>()
            && u16::from_be_bytes([*e0, *e1]) == message::PING_REQUEST
            && let Some(time) = rest.first_chunk::<4>()
        {
            let pong = user_control(message::PING_RESPONSE, u32::from_be_bytes(*time));
            self.control(message::USER_CONTROL, &pong);
        }
    }

    fn on_media(&mut self, message: Message) {
        let kind = if message.kind == message::AUDIO { MediaKind::Audio } else { MediaKind::Video };
        match self.phase {
            Phase::Publishing => self.output.push_back(Output::Event(Event::Media {
                kind,
                timestamp_ms: message.timestamp_ms,
                body: message.body,
            })),
            Phase::Open | Phase::Deciding => {
                let bytes = self.early_bytes().saturating_add(message.body.len());
                if self.early.len() < EARLY_MESSAGES_MAX && bytes <= EARLY_BYTES_MAX {
                    self.early.push_back(message);
                }
            }
            _ => {}
        }
    }

    fn on_data(&mut self, message: &Message) {
        let body = match message.body.split_first() {
            Some((0, rest)) if message.kind == message::DATA_AMF3 => rest,
            _ => &message.body,
        };
        let values = amf0::read_some(body);
        let mut values = values.into_iter().skip_while(|value| value.as_str() == Some("@setDataFrame"));
        if values.next().as_ref().and_then(Value::as_str) == Some("onMetaData")
            && let Some(Value::Object(properties)) = values.next()
            && self.phase == Phase::Publishing
        {
            self.output.push_back(Output::Event(Event::Metadata(properties)));
        }
    }

    fn on_command(&mut self, message: &Message) -> Result<(), Error> {
        if self.phase != Phase::Publishing {
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
                self.reply(&command::result(
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
                self.reply(&command::result(command.transaction, &[Value::Null, Value::Null]));
            }
            "FCPublish" => {
                self.reply(&command::result(command.transaction, &[Value::Null, Value::Null]));
                let name = command.text(1).unwrap_or_default();
                let info = command::info("status", "NetStream.Publish.Start", &name);
                self.reply(&command::command("onFCPublish", 0.0, &[Value::Null, info]));
            }
            "FCUnpublish" => {
                self.reply(&command::result(command.transaction, &[Value::Null, Value::Null]));
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
        self.control(message::WINDOW_SIZE, &WINDOW.to_be_bytes());
        let [w0, w1, w2, w3] = WINDOW.to_be_bytes();
        // Section 5.4.5: limit type 2 is "dynamic".
        self.control(message::PEER_BANDWIDTH, &[w0, w1, w2, w3, 2]);
        let size: u32 = 4096;
        self.control(message::SET_CHUNK_SIZE, &size.to_be_bytes());
        self.writer.set_size(4096);
        let properties = Value::Object(vec![
            ("fmsVer".to_owned(), Value::String("FMS/3,5,7,7009".to_owned())),
            ("capabilities".to_owned(), Value::Number(31.0)),
            ("mode".to_owned(), Value::Number(1.0)),
            // Enhanced RTMP v1: the one codec beyond AVC and AAC that is passed on.
            ("fourCcList".to_owned(), Value::Array(vec![Value::String("Opus".to_owned())])),
        ]);
        let mut info = command::info("status", "NetConnection.Connect.Success", "Connection succeeded.");
        if let Value::Object(properties) = &mut info {
            properties.push(("objectEncoding".to_owned(), Value::Number(0.0)));
        }
        self.reply(&command::result(command.transaction, &[properties, info]));
    }

    /// Section 7.2.2.6. The type - live, record, append - is often missing and never matters.
    fn on_publish(&mut self, command: &Command) {
        if self.phase != Phase::Open {
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
        self.phase = Phase::Deciding;
        self.output.push_back(Output::Event(Event::PublishRequested(self.request.clone())));
    }

    fn end_publish(&mut self) {
        if matches!(self.phase, Phase::Publishing | Phase::Deciding) {
            self.output.push_back(Output::Event(Event::PublishEnded));
            self.status("status", "NetStream.Unpublish.Success", "The stream has ended.");
            self.close();
        }
    }

    /// Section 5.4.3: every so many bytes are acknowledged.
    fn acknowledge(&mut self) {
        if self.received.saturating_sub(self.acknowledged) >= self.window && self.handshake.is_done() {
            self.acknowledged = self.received;
            let [.., s0, s1, s2, s3] = self.received.to_be_bytes();
            self.control(message::ACKNOWLEDGEMENT, &[s0, s1, s2, s3]);
        }
    }

    fn control(&mut self, kind: u8, body: &[u8]) {
        self.writer.write(CONTROL_CHUNKS, kind, 0, body, &mut self.pending);
    }

    fn reply(&mut self, body: &[u8]) {
        self.writer.write(COMMAND_CHUNKS, message::COMMAND_AMF0, 0, body, &mut self.pending);
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let body = command::on_status(level, code, description);
        self.writer.write(STATUS_CHUNKS, message::COMMAND_AMF0, STREAM, &body, &mut self.pending);
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.pending));
            self.output_bytes = self.output_bytes.saturating_add(bytes.len());
            self.output.push_back(Output::Send(bytes));
        }
    }
}

fn control_value(message: &Message) -> Result<u32, Error> {
    let value = message.body.first_chunk::<4>().map(|value| u32::from_be_bytes(*value));
    value.ok_or(Error::Control { kind: message.kind, len: message.body.len() })
}

fn user_control(event: u16, value: u32) -> [u8; 6] {
    let ([e0, e1], [v0, v1, v2, v3]) = (event.to_be_bytes(), value.to_be_bytes());
    [e0, e1, v0, v1, v2, v3]
}
