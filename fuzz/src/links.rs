use std::time::Instant;

use link::{Control, ControlReader, GroupHeader, GroupReader, WireError};
use media::MediaTime;

/// Any bytes are messages or an error, the same however they arrive, and what was read is written as what it was.
pub fn link_control(bytes: &[u8]) {
    let whole = messages(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(messages(bytes, piece), whole, "in pieces of {piece}");
    }
    let written: Vec<u8> = whole.0.iter().flat_map(Control::encode).collect();
    assert_eq!(messages(&written, written.len().max(1)), (whole.0, None));
}

/// Any bytes are a group or an error, and the same however they arrive.
pub fn link_group(bytes: &[u8]) {
    let whole = group(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(group(bytes, piece), whole, "in pieces of {piece}");
    }
    let written = whole.0.map(|header| header.encode());
    assert!(written.is_none_or(|written| bytes.starts_with(&written)), "a head is written as it was read");
}

fn messages(bytes: &[u8], piece: usize) -> (Vec<Control>, Option<WireError>) {
    let (mut reader, mut read) = (ControlReader::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.message() {
                Ok(Some(message)) => read.push(message),
                Ok(None) => break,
                Err(error) => return (read, Some(error)),
            }
        }
    }
    (read, None)
}

/// Index, time, length and whether it is a keyframe.
type Seen = (u32, MediaTime, usize, bool);

fn group(bytes: &[u8], piece: usize) -> (Option<GroupHeader>, Vec<Seen>, Option<WireError>) {
    let (mut reader, mut head, mut seen, now) = (GroupReader::default(), None, Vec::new(), Instant::now());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.header() {
                Ok(header) => head = header,
                Err(error) => return (head, seen, Some(error)),
            }
            match reader.frame(now) {
                Ok(Some((index, frame))) => {
                    seen.push((index, frame.time(), frame.len(), frame.is_keyframe()));
                }
                Ok(None) => break,
                Err(error) => return (head, seen, Some(error)),
            }
        }
    }
    (head, seen, None)
}
