//! How FLV carries H.264: ISO/IEC 14496-15, section 5.3.3.
use bytes::Bytes;

use super::{H264Error, SETS_MAX};

/// NAL units in one access unit at most. Encoders make 1 to 20; a slice for each row of macroblocks makes 135.
pub const NALS_MAX: usize = 512;

/// An `AVCDecoderConfigurationRecord`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    /// Bytes of length in front of every NAL unit: 1, 2 or 4.
    pub length_size: usize,
    /// Sequence parameter sets.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets.
    pub pps: Vec<Bytes>,
}

impl AvcConfig {
    /// Reads a record. What follows the sets - the extension of High profiles, junk - is not looked at.
    pub fn parse(record: &Bytes) -> Result<Self, H264Error> {
        Self::read(record).ok_or(H264Error::Damaged("configuration"))
    }

    fn read(record: &Bytes) -> Option<Self> {
        let &[version, _, _, _, lengths, sps_count] = record.first_chunk::<6>()?;
        // A length of three bytes is not allowed: section 5.3.3.1.2, `lengthSizeMinusOne`.
        let length_size = usize::from(lengths & 3).checked_add(1).filter(|size| *size != 3)?;
        if version != 1 {
            return None;
        }
        let mut rest = record.slice(6..);
        let sps = take_sets(&mut rest, usize::from(sps_count & 0x1f))?;
        let pps_count = *rest.first()?;
        rest = rest.slice(1..);
        let pps = take_sets(&mut rest, usize::from(pps_count))?;
        Some(Self { length_size, sps, pps })
    }
}

fn take_sets(rest: &mut Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let len = usize::from(u16::from_be_bytes(*rest.first_chunk::<2>()?));
        let end = len.checked_add(2)?;
        if rest.len() < end {
            return None;
        }
        if len > 0 && sets.len() < SETS_MAX {
            sets.push(rest.slice(2..end));
        }
        *rest = rest.slice(end..);
    }
    Some(sets)
}

/// The NAL units of an access unit, as slices of it; `length_size` is that of the configuration.
///
/// Some encoders put start codes where lengths belong. A unit that begins with one and that lengths do not lead through
/// to its end is taken for such. The first start code of an access unit always has four bytes (section B.1.2); three
/// could as well be the length of a small picture.
pub fn split_access_unit(unit: &Bytes, length_size: usize) -> Result<Vec<Bytes>, H264Error> {
    if !(1..=4).contains(&length_size) {
        return Err(H264Error::Damaged("configuration"));
    }
    if unit.starts_with(&[0, 0, 0, 1]) && !is_length_prefixed(unit, length_size) {
        return split_start_codes(unit);
    }
    let mut nals = Vec::new();
    let mut at = 0;
    while at < unit.len() {
        let (start, end) = bounds_at(unit, at, length_size).ok_or(H264Error::Damaged("picture"))?;
        push(&mut nals, unit.slice(start..end))?;
        at = end;
    }
    Ok(nals)
}

/// Where the NAL unit lies whose length is written at `at`. Its end is always beyond `at`.
fn bounds_at(unit: &[u8], at: usize, length_size: usize) -> Option<(usize, usize)> {
    let start = at.checked_add(length_size)?;
    let length = unit.get(at..start)?;
    let len = length.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
    let end = start.checked_add(len).filter(|end| *end <= unit.len())?;
    Some((start, end))
}

fn is_length_prefixed(unit: &[u8], length_size: usize) -> bool {
    let mut at = 0;
    while let Some((_, end)) = bounds_at(unit, at, length_size) {
        at = end;
    }
    at == unit.len()
}

/// H.264, annex B.
fn split_start_codes(unit: &Bytes) -> Result<Vec<Bytes>, H264Error> {
    let mut nals = Vec::new();
    let mut begin: Option<usize> = None;
    let codes = unit.windows(3).enumerate().filter(|(_, window)| *window == [0, 0, 1]);
    for (at, _) in codes {
        if let Some(begin) = begin {
            push(&mut nals, without_trailing_zeros(&unit.slice(begin..at)))?;
        }
        begin = at.checked_add(3);
    }
    if let Some(begin) = begin {
        push(&mut nals, without_trailing_zeros(&unit.slice(begin..)))?;
    }
    Ok(nals)
}

/// A NAL unit never ends in a zero byte (section 7.4.1): what follows it belongs to the next start code or is padding.
fn without_trailing_zeros(nal: &Bytes) -> Bytes {
    let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
    nal.slice(..nal.len().saturating_sub(zeros))
}

fn push(nals: &mut Vec<Bytes>, nal: Bytes) -> Result<(), H264Error> {
    if nal.is_empty() {
        return Ok(());
    }
    if nals.len() >= NALS_MAX {
        return Err(H264Error::TooManyNals(NALS_MAX));
    }
    nals.push(nal);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_its_sets_and_ignores_what_follows() {
        let record = Bytes::from_static(&[
            1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 2, 0x67, 9, 1, 0, 3, 0x68, 8, 7, 0xfd, 0xf8, 0xf8, 0,
        ]);
        let config = AvcConfig::parse(&record).unwrap();
        assert_eq!(config.length_size, 4);
        assert_eq!(config.sps, [Bytes::from_static(&[0x67, 9])]);
        assert_eq!(config.pps, [Bytes::from_static(&[0x68, 8, 7])]);
        for len in 0..16 {
            assert!(AvcConfig::parse(&record.slice(..len)).is_err());
        }
    }

    #[test]
    fn lengths_of_every_size_and_start_codes_are_understood() {
        let expected = [Bytes::from_static(&[0x65, 1]), Bytes::from_static(&[0x65, 2, 3])];
        for (size, unit) in [
            (4, &[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 3, 0x65, 2, 3][..]),
            (2, &[0, 2, 0x65, 1, 0, 0, 0, 3, 0x65, 2, 3]),
            (1, &[2, 0x65, 1, 3, 0x65, 2, 3]),
            (4, &[0, 0, 0, 1, 0x65, 1, 0, 0, 1, 0x65, 2, 3]),
            (4, &[0, 0, 0, 1, 0x65, 1, 0, 0, 0, 1, 0x65, 2, 3, 0, 0]),
            (4, &[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0x65, 2, 3, 0, 0, 0, 0]),
        ] {
            assert_eq!(split_access_unit(&Bytes::copy_from_slice(unit), size).unwrap(), expected, "{unit:?}");
        }
    }

    #[test]
    fn a_record_without_sets_is_a_record() {
        let config = AvcConfig::parse(&Bytes::from_static(&[1, 0x42, 0xc0, 0x1f, 0xfd, 0xe0, 0])).unwrap();
        assert_eq!(config, AvcConfig { length_size: 2, sps: vec![], pps: vec![] });
    }

    #[test]
    fn other_versions_and_lengths_of_three_bytes_are_refused() {
        for record in [[0, 0x42, 0xc0, 0x1f, 0xff, 0xe0, 0], [1, 0x42, 0xc0, 0x1f, 0xfe, 0xe0, 0]] {
            assert!(AvcConfig::parse(&Bytes::copy_from_slice(&record)).is_err());
        }
    }

    #[test]
    fn a_unit_of_one_byte_is_not_taken_for_a_start_code() {
        let unit = Bytes::from_static(&[0, 0, 0, 1, 0x0b, 0, 0, 0, 2, 0x65, 7]);
        assert_eq!(split_access_unit(&unit, 4).unwrap(), [&[0x0b][..], &[0x65, 7]]);
    }

    #[test]
    fn a_small_picture_that_is_cut_off_is_not_taken_for_start_codes() {
        let mut unit = vec![0, 0, 1, 0x41];
        unit.resize(0x100, 0x41);
        assert_eq!(split_access_unit(&Bytes::from(unit), 4), Err(H264Error::Damaged("picture")));
    }

    #[test]
    fn a_size_of_lengths_that_cannot_be_is_an_error() {
        for size in [0, 5, usize::MAX] {
            assert!(split_access_unit(&Bytes::from_static(&[0; 16]), size).is_err());
        }
    }

    #[test]
    fn lengths_beyond_the_unit_are_errors() {
        for unit in [&[0, 0, 0, 9, 0x65][..], &[0, 0], &[0xff, 0xff, 0xff, 0xff, 1]] {
            assert!(split_access_unit(&Bytes::copy_from_slice(unit), 4).is_err());
        }
        let flood = Bytes::from([0, 0, 0, 1, 0x41].repeat(NALS_MAX + 1));
        assert_eq!(split_access_unit(&flood, 4), Err(H264Error::TooManyNals(NALS_MAX)));
    }
}
