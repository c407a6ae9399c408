//! Chunks: section 5.3. A message is cut into chunks, and chunks of several messages alternate.
mod writer;

use bytes::{Bytes, BytesMut};

use crate::Error;
pub(crate) use writer::Writer;

/// Section 5.4.1: the chunk size until somebody sets another.
pub(crate) const DEFAULT_SIZE: usize = 128;
/// Chunk sizes beyond the largest message mean the same as the largest message.
const SIZE_MAX: usize = 16 << 20;
/// Section 5.3.1.3: this value says that the timestamp follows in four bytes of its own.
const EXTENDED: u32 = 0x00ff_ffff;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type (section 5.4 and 7.1).
    pub kind: u8,
    /// Milliseconds since the publisher's beginning, modulo 2^32.
    pub timestamp_ms: u32,
    /// The message stream it belongs to.
    pub stream: u32,
    /// What it carries.
    pub body: Bytes,
}

/// Puts messages together from chunks.
#[derive(Debug)]
pub struct Reader {
    size: usize,
    /// So few that looking at each is faster than any map.
    streams: Vec<ChunkStream>,
    partial_bytes: usize,
    /// Bytes of one message at most.
    pub message_max: usize,
    streams_max: usize,
    partial_max: usize,
}

/// What one chunk stream remembers between chunks.
#[derive(Debug, Default)]
struct ChunkStream {
    id: u32,
    has_header: bool,
    timestamp_ms: u32,
    delta_ms: u32,
    /// The last timestamp field was the escape, and this followed it.
    extended: Option<u32>,
    len: usize,
    kind: u8,
    stream: u32,
    body: BytesMut,
    is_open: bool,
}

/// The fields of one chunk's header, before they are applied.
#[derive(Debug, Clone, Copy)]
struct Header {
    format: u8,
    id: u32,
    /// Bytes of basic and message header.
    len: usize,
    field: u32,
    message: Option<(usize, u8)>,
    stream: Option<u32>,
}

impl Reader {
    /// For messages up to `message_max` bytes.
    pub fn new(message_max: usize, streams_max: usize, partial_max: usize) -> Self {
        Self {
            size: DEFAULT_SIZE,
            streams: Vec::new(),
            partial_bytes: 0,
            message_max,
            streams_max,
            partial_max,
        }
    }

    /// Section 5.4.1: at least 1. Zero and values with the first bit set are refused by the caller.
    pub fn set_size(&mut self, size: usize) {
        self.size = size.clamp(1, SIZE_MAX);
    }

    /// Allows more, once the sender is known.
    pub fn set_partial_max(&mut self, bytes: usize) {
        self.partial_max = bytes;
    }

    /// Section 5.4.2: what has come of a message is thrown away.
    pub fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            self.partial_bytes = self.partial_bytes.saturating_sub(stream.body.len());
            stream.body = BytesMut::new();
            stream.is_open = false;
        }
    }

    /// Bytes that are kept for messages that have not ended.
    pub fn buffered_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Takes one chunk from the front of `input`. Returns how many bytes it had - `None` when it is not all there yet -
    /// and the message that it completed.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(usize, Option<Message>)>, Error> {
        let Some(header) = parse_header(input) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == header.id);
        if known.is_none() {
            if self.streams.len() >= self.streams_max {
                return Err(Error::TooManyChunkStreams(self.streams_max));
            }
            self.streams.push(ChunkStream { id: header.id, ..ChunkStream::default() });
        }
        let place = known.unwrap_or(self.streams.len().saturating_sub(1));
        let stream = self.streams.get_mut(place).expect("it was found or has just been added");
        if header.format > 1 && !stream.has_header {
            return Err(Error::NoHeader(header.id));
        }
        let after = input.get(header.len..).unwrap_or(&[]);
        let Some((extended, extended_len)) = stream.parse_extended(&header, after) else { return Ok(None) };

        let (len, kind) = header.message.unwrap_or((stream.len, stream.kind));
        let begins = !stream.is_open;
        if len > self.message_max {
            return Err(Error::MessageTooLarge { len, chunk_stream: header.id, max: self.message_max });
        }
        let have = if begins || header.format < 3 { 0 } else { stream.body.len() };
        let take = len.saturating_sub(have).min(self.size);
        let head = header.len.saturating_add(extended_len);
        let Some(payload) = input.get(head..head.saturating_add(take)) else { return Ok(None) };

        // A full header in mid-message begins a new one; librtmp's forks do it after dropping a frame.
        if !begins && header.format < 3 {
            self.partial_bytes = self.partial_bytes.saturating_sub(stream.body.len());
            stream.body = BytesMut::new();
        }
        if begins || header.format < 3 {
            stream.apply(&header, extended, len, kind);
        }
        stream.body.extend_from_slice(payload);
        self.partial_bytes = self.partial_bytes.saturating_add(payload.len());
        if self.partial_bytes > self.partial_max {
            return Err(Error::TooMuchPartial(self.partial_max));
        }
        stream.is_open = stream.body.len() < stream.len;
        let message = (!stream.is_open).then(|| {
            self.partial_bytes = self.partial_bytes.saturating_sub(stream.body.len());
            Message {
                kind: stream.kind,
                timestamp_ms: stream.timestamp_ms,
                stream: stream.stream,
                body: std::mem::take(&mut stream.body).freeze(),
            }
        });
        Ok(Some((head.saturating_add(take), message)))
    }
}

impl ChunkStream {
    /// Section 5.3.1.3. A chunk of format 3 after an escape carries the four bytes again, says the specification and do
    /// most senders; old librtmp leaves them out. So they are compared with what they would repeat.
    fn parse_extended(&self, header: &Header, after: &[u8]) -> Option<(Option<u32>, usize)> {
        if header.format < 3 {
            return if header.field == EXTENDED {
                after.first_chunk::<4>().map(|bytes| (Some(u32::from_be_bytes(*bytes)), 4))
            } else {
                Some((None, 0))
            };
        }
        let Some(before) = self.extended.map(u32::to_be_bytes) else { return Some((None, 0)) };
        let seen = after.get(..before.len()).unwrap_or(after);
        if !before.starts_with(seen) {
            return Some((self.extended, 0));
        }
        // While what has come looks like the repetition, the rest of it is awaited. A last chunk of old librtmp that is
        // shorter and looks the same waits for the chunk behind it.
        (seen.len() == before.len()).then_some((self.extended, before.len()))
    }

    fn apply(&mut self, header: &Header, extended: Option<u32>, len: usize, kind: u8) {
        let value = extended.unwrap_or(header.field);
        match header.format {
            0 => {
                self.timestamp_ms = value;
                // Section 5.3.1.2.4: a chunk of format 3 that begins a message after one of format 0 adds that one's
                // timestamp. ffmpeg relies on it when the second time is twice the first.
                self.delta_ms = value;
            }
            1 | 2 => {
                self.delta_ms = value;
                self.timestamp_ms = self.timestamp_ms.wrapping_add(value);
            }
            _ => self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms),
        }
        if header.format < 3 {
            self.extended = extended;
        }
        self.len = len;
        self.kind = kind;
        if let Some(stream) = header.stream {
            self.stream = stream;
        }
        self.has_header = true;
        self.is_open = true;
    }
}

/// Sections 5.3.1.1 and 5.3.1.2.
fn parse_header(input: &[u8]) -> Option<Header> {
    let (&first, rest) = input.split_first()?;
    let format = first >> 6;
    let (id, basic) = match (first & 0x3f, rest) {
        (0, [second, ..]) => (u32::from(*second).saturating_add(64), 2_usize),
        (1, [second, third, ..]) => {
            (u32::from(*third).saturating_mul(256).saturating_add(u32::from(*second)).saturating_add(64), 3)
        }
        (0 | 1, _) => return None,
        (id, _) => (u32::from(id), 1),
    };
    let fields = input.get(basic..)?;
    let mut header = Header { format, id, len: basic, field: 0, message: None, stream: None };
    if format == 3 {
        return Some(header);
    }
    let [t0, t1, t2] = *fields.first_chunk::<3>()?;
    header.field = u32::from_be_bytes([0, t0, t1, t2]);
    header.len = header.len.saturating_add(3);
    if format < 2 {
        let [l0, l1, l2, kind] = *fields.get(3..)?.first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        header.message = Some((len, kind));
        header.len = header.len.saturating_add(4);
    }
    if format == 0 {
        // The one field of RTMP that is little-endian.
        header.stream = Some(u32::from_le_bytes(*fields.get(7..)?.first_chunk::<4>()?));
        header.len = header.len.saturating_add(4);
    }
    Some(header)
}
