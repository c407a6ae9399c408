//! The records in a datagram (RFC 6347, section 4.1).

/// What is before a record's body: kind, version, epoch, number, length.
const HEADER_LEN: usize = 13;
/// Records that the library takes at once. OpenSSL sends its last flight as one datagram, and with a large certificate
/// cuts it into more than that.
const AT_ONCE: usize = 8;

/// Header and body of the first record, if it is whole.
pub(super) fn first(records: &[u8]) -> Option<(&[u8; HEADER_LEN], &[u8])> {
    let (header, rest) = records.split_first_chunk::<HEADER_LEN>()?;
    let [.., len0, len1] = *header;
    Some((header, rest.get(..usize::from(u16::from_be_bytes([len0, len1])))?))
}

/// The datagram in pieces of as many whole records as the library takes, and last what is no whole record: with it the library
/// would throw the others away.
pub(super) fn split(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (mut end, mut count) = (0, 0);
        while count < AT_ONCE
            && let Some((header, body)) = rest.get(end..).and_then(first)
        {
            end += header.len() + body.len();
            count += 1;
        }
        if count == 0 {
            end = rest.len();
        }
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u8) -> Vec<u8> {
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, len];
        record.resize(HEADER_LEN + usize::from(len), 7);
        record
    }

    #[test]
    fn a_datagram_is_cut_between_records_and_nothing_of_it_is_lost() {
        for count in 0..30 {
            for garbage in [&[][..], &[1, 2, 3], &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 1]] {
                let mut datagram: Vec<u8> = (0..count).flat_map(record).collect();
                datagram.extend_from_slice(garbage);
                let pieces: Vec<_> = split(&datagram).collect();
                assert_eq!(pieces.concat(), datagram);
                for piece in pieces {
                    let (mut rest, mut records) = (piece, 0);
                    while let Some((header, body)) = first(rest) {
                        rest = &rest[header.len() + body.len()..];
                        records += 1;
                    }
                    assert!(records <= AT_ONCE && (rest.is_empty() || piece == garbage));
                }
            }
        }
    }
}
