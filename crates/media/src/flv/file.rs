//! FLV files: annex E.2 and E.4.
use bytes::Bytes;

/// One tag of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 8 for sound, 9 for video, 18 for data: the message types of RTMP.
    pub kind: u8,
    /// Milliseconds since the file's beginning.
    pub timestamp_ms: u32,
    /// What a message carries.
    pub body: Bytes,
}

/// The tags of a file, up to its end or to the first that is cut off.
#[derive(Clone, Debug)]
pub struct Tags {
    rest: Bytes,
}

impl Tags {
    /// Of a whole file; `None` when it is not FLV.
    pub fn parse(file: Bytes) -> Option<Self> {
        let header = file.strip_prefix(b"FLV")?;
        let len = u32::from_be_bytes(*header.get(2..)?.first_chunk::<4>()?);
        // After the header comes the size of the tag before the first: four zero bytes.
        let start = usize::try_from(len).ok()?.checked_add(4)?;
        (start <= file.len()).then(|| Self { rest: file.slice(start..) })
    }
}

impl Iterator for Tags {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let &[kind, l0, l1, l2, t0, t1, t2, t3, ..] = self.rest.first_chunk::<11>()?;
        let len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        let end = len.checked_add(11)?;
        if self.rest.len() < end {
            return None;
        }
        let body = self.rest.slice(11..end);
        self.rest = self.rest.slice(end.saturating_add(4).min(self.rest.len())..);
        Some(Tag { kind: kind & 0x1f, timestamp_ms: u32::from_be_bytes([t3, t0, t1, t2]), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00";

    #[test]
    fn tags_come_with_their_kind_time_and_body() {
        // The fourth byte of the time is its highest; behind the body comes the size of the tag.
        let first = b"\x09\0\0\x02\0\0\x21\x01\0\0\0ab\0\0\0\x0d";
        let second = b"\x28\0\0\0\0\0\x22\0\0\0\0\0\0\0\x0b";
        let file = Bytes::from([HEADER, first, second].concat());
        let tags: Vec<Tag> = Tags::parse(file).unwrap().collect();
        assert_eq!(
            tags,
            [
                Tag { kind: 9, timestamp_ms: 0x0100_0021, body: Bytes::from_static(b"ab") },
                Tag { kind: 8, timestamp_ms: 0x22, body: Bytes::new() },
            ]
        );
    }

    #[test]
    fn a_tag_that_is_cut_off_ends_the_file() {
        let tag = b"\x09\0\0\x02\0\0\x21\0\0\0\0ab";
        for len in 0..tag.len() {
            let file = Bytes::from([HEADER, &tag[..len]].concat());
            assert_eq!(Tags::parse(file).unwrap().count(), 0, "{len} bytes");
        }
        assert_eq!(Tags::parse(Bytes::from([HEADER, tag].concat())).unwrap().count(), 1);
    }

    #[test]
    fn other_files_are_refused() {
        for file in
            [&b""[..], b"FLV", b"FLV\x01\x05\xff\xff\xff\xff\0\0\0\0", b"RIFF\x01\x05\0\0\0\x09\0\0\0\0"]
        {
            assert!(Tags::parse(Bytes::copy_from_slice(file)).is_none());
        }
    }
}
