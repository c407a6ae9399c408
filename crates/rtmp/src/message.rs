//! Message types (sections 5.4, 6.2 and 7.1) and the parts that are not commands.
use bytes::Bytes;

use crate::chunk::Message;

pub(crate) const SET_CHUNK_SIZE: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
pub(crate) const USER_CONTROL: u8 = 4;
pub(crate) const WINDOW_SIZE: u8 = 5;
pub(crate) const PEER_BANDWIDTH: u8 = 6;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA_AMF3: u8 = 15;
pub(crate) const COMMAND_AMF3: u8 = 17;
pub(crate) const DATA_AMF0: u8 = 18;
pub(crate) const COMMAND_AMF0: u8 = 20;
pub(crate) const AGGREGATE: u8 = 22;

/// Section 6.2: user control events.
pub(crate) const STREAM_BEGIN: u16 = 0;
pub(crate) const PING_REQUEST: u16 = 6;
pub(crate) const PING_RESPONSE: u16 = 7;

/// Bytes in front of every message of an aggregate, and of the back pointer behind it (section 7.1.6; the FLV file
/// format's tag).
const TAG_HEADER_LEN: usize = 11;
const BACK_POINTER_LEN: usize = 4;

/// Messages of one aggregate: ten seconds of pictures and sound.
const PARTS_MAX: usize = 1024;

/// The body of a user control message.
pub(crate) fn user_control(event: u16, value: u32) -> [u8; 6] {
    let ([e0, e1], [v0, v1, v2, v3]) = (event.to_be_bytes(), value.to_be_bytes());
    [e0, e1, v0, v1, v2, v3]
}

/// The messages within an aggregate. Their times are relative to the first's, which is the aggregate's own.
pub(crate) fn split_aggregate(aggregate: &Message) -> impl Iterator<Item = Message> {
    let mut rest: Bytes = aggregate.body.clone();
    let mut first = None;
    std::iter::from_fn(move || {
        let &[kind, l0, l1, l2, t0, t1, t2, t3, ..] = rest.first_chunk::<TAG_HEADER_LEN>()?;
        let len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        let timestamp_ms = u32::from_be_bytes([t3, t0, t1, t2]);
        let first = *first.get_or_insert(timestamp_ms);
        let end = TAG_HEADER_LEN.saturating_add(len);
        if rest.len() < end {
            return None;
        }
        let body = rest.slice(TAG_HEADER_LEN..end);
        rest = rest.slice(end.saturating_add(BACK_POINTER_LEN).min(rest.len())..);
        Some(Message {
            kind,
            timestamp_ms: aggregate.timestamp_ms.wrapping_add(timestamp_ms.wrapping_sub(first)),
            stream: aggregate.stream,
            body,
        })
    })
    .take(PARTS_MAX)
}
