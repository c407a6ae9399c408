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

/// The messages within an aggregate. Their times are relative to the first's, which is the aggregate's own.
pub(crate) fn split_aggregate(aggregate: &Message) -> Vec<Message> {
    let mut rest: Bytes = aggregate.body.clone();
    let mut first = None;
    let mut messages = Vec::new();
    while let Some(&[kind, l0, l1, l2, t0, t1, t2, t3, ..]) = rest.first_chunk::<TAG_HEADER_LEN>() {
        let len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX);
        let timestamp_ms = u32::from_be_bytes([t3, t0, t1, t2]);
        let first = *first.get_or_insert(timestamp_ms);
        let end = TAG_HEADER_LEN.saturating_add(len);
        if rest.len() < end {
            break;
        }
        messages.push(Message {
            kind,
            timestamp_ms: aggregate.timestamp_ms.wrapping_add(timestamp_ms.wrapping_sub(first)),
            stream: aggregate.stream,
            body: rest.slice(TAG_HEADER_LEN..end),
        });
        rest = rest.slice(end.saturating_add(BACK_POINTER_LEN).min(rest.len())..);
    }
    messages
}
