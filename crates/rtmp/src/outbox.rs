//! What waits to leave a session: written answers and events, in the order in which they came about.
use std::collections::VecDeque;

use bytes::Bytes;

use crate::chunk::Writer;
use crate::command;
use crate::message;
use crate::{Event, Output};

/// Chunk streams for our own messages: section 5.4 reserves 2, the others are custom.
const CONTROL_CHUNKS: u8 = 2;
const COMMAND_CHUNKS: u8 = 3;
const STATUS_CHUNKS: u8 = 5;

/// A queue of outputs. The bytes of its answers are for the session to bound; its events are at most as many as one
/// input can hold, since the shell drains after every input.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    writer: Writer,
    queue: VecDeque<Output>,
    queued_bytes: usize,
    /// Answers that are written and not yet a `Send` of their own: one input gets one answer.
    pending: Vec<u8>,
}

impl Outbox {
    /// A protocol control message; section 5.4 wants message stream 0.
    pub(crate) fn control(&mut self, kind: u8, body: &[u8]) {
        self.writer.write(CONTROL_CHUNKS, kind, 0, body, &mut self.pending);
    }

    /// Tells the peer our chunk size and keeps to it.
    pub(crate) fn set_chunk_size(&mut self, size: u16) {
        self.control(message::SET_CHUNK_SIZE, &u32::from(size).to_be_bytes());
        self.writer.set_size(usize::from(size));
    }

    /// The answer to a command.
    pub(crate) fn reply(&mut self, body: &[u8]) {
        self.writer.write(COMMAND_CHUNKS, message::COMMAND_AMF0, 0, body, &mut self.pending);
    }

    /// `onStatus` about message stream `stream`.
    pub(crate) fn status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let body = command::on_status(level, code, description);
        self.writer.write(STATUS_CHUNKS, message::COMMAND_AMF0, stream, &body, &mut self.pending);
    }

    /// The handshake's reply, which no chunk carries.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// An event, behind every answer before it: a shell that takes its time to decide delays none of them.
    pub(crate) fn event(&mut self, event: Event) {
        self.flush();
        self.queue.push_back(Output::Event(event));
    }

    /// The last output.
    pub(crate) fn close(&mut self) {
        self.flush();
        self.queue.push_back(Output::Close);
    }

    /// Makes what is written so far visible to [`Self::pop`].
    pub(crate) fn flush(&mut self) {
        if !self.pending.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.pending));
            self.queued_bytes = self.queued_bytes.saturating_add(bytes.len());
            self.queue.push_back(Output::Send(bytes));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        let output = self.queue.pop_front();
        if let Some(Output::Send(bytes)) = &output {
            self.queued_bytes = self.queued_bytes.saturating_sub(bytes.len());
        }
        output
    }

    /// Bytes of answers that nobody has taken.
    pub(crate) fn bytes(&self) -> usize {
        self.queued_bytes.saturating_add(self.pending.len())
    }
}
