//! Slice headers: section 7.3.3, as far as the place of a picture in decoding and display order.
use super::Sps;
use super::sps::PictureOrder;
use crate::bits::Bits;

/// Bytes of a slice that are looked at: five numbers of up to 63 bits, three of up to 16, and prevention bytes.
const HEADER_BYTES_MAX: usize = 72;

/// The kinds of slice (table 7-6), by what they are predicted from: SP counts as P, SI as I.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceType {
    /// Needs pictures before it, and is what everything but keyframes is made of.
    P,
    /// Needs pictures before and after it.
    B,
    /// Needs no other.
    I,
}

impl SliceType {
    /// Of a slice's NAL unit, header byte included.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        Self::read(&mut open(nal)?)
    }

    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let _first_macroblock = bits.ue()?;
        match bits.ue()? {
            0 | 3 | 5 | 8 => Some(Self::P),
            1 | 6 => Some(Self::B),
            2 | 4 | 7 | 9 => Some(Self::I),
            _ => None,
        }
    }
}

/// The beginning of a slice header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceHeader {
    /// The kind of slice.
    pub slice_type: SliceType,
    /// Counts reference pictures in decoding order, modulo a power of two.
    pub frame_num: u32,
    /// Counts fields in display order, modulo a power of two; only where the sequence says so.
    pub pic_order_cnt_lsb: Option<u32>,
}

impl SliceHeader {
    /// Of a slice's NAL unit, header byte included, in a sequence of these parameters.
    pub fn parse(nal: &[u8], sps: &Sps) -> Option<Self> {
        let mut bits = open(nal)?;
        let slice_type = SliceType::read(&mut bits)?;
        let _pps_id = bits.ue()?;
        if sps.has_separate_planes {
            bits.skip(2)?;
        }
        let frame_num = bits.bits(sps.frame_num_bits)?;
        if !sps.is_progressive && bits.bit()? {
            let _is_bottom_field = bits.bit()?;
        }
        if nal.first()? & 0x1f == 5 {
            let _idr_pic_id = bits.ue()?;
        }
        let pic_order_cnt_lsb = match sps.order {
            PictureOrder::Counted { lsb_bits } => Some(bits.bits(lsb_bits)?),
            PictureOrder::Patterned | PictureOrder::AsDecoded => None,
        };
        Some(Self { slice_type, frame_num, pic_order_cnt_lsb })
    }
}

/// Data partitions B and C (types 3 and 4) begin with something else.
fn open(nal: &[u8]) -> Option<Bits<'static>> {
    let (header, payload) = nal.split_first()?;
    let payload = payload.get(..HEADER_BYTES_MAX).unwrap_or(payload);
    matches!(header & 0x1f, 1 | 2 | 5).then(|| Bits::of_payload(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_slice_is_its_second_number() {
        // first_mb 0 is "1"; slice types 5, 6, 7 are "00110", "00111", "0001000"; 10 is "0001011".
        assert_eq!(SliceType::parse(&[0x41, 0b1001_1000]), Some(SliceType::P));
        assert_eq!(SliceType::parse(&[0x01, 0b1001_1100]), Some(SliceType::B));
        assert_eq!(SliceType::parse(&[0x65, 0b1000_1000]), Some(SliceType::I));
        assert_eq!(SliceType::parse(&[0x41, 0b1000_1011]), None);
        assert_eq!(SliceType::parse(&[0x41]), None);
        assert_eq!(SliceType::parse(&[0x41, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn partitions_without_a_slice_header_have_no_kind() {
        assert_eq!(SliceType::parse(&[0x44, 0b1001_1100]), None);
        assert_eq!(SliceType::parse(&[0x68, 0b1001_1100]), None);
    }

    #[test]
    fn fields_planes_and_keyframes_have_more_before_the_count() {
        let progressive = Sps {
            profile_idc: 100,
            constraints: 0,
            level_idc: 31,
            chroma_format_idc: 1,
            has_separate_planes: false,
            bit_depth: 8,
            frame_num_bits: 4,
            order: PictureOrder::Counted { lsb_bits: 4 },
            references_max: 1,
            is_progressive: true,
            width: 16,
            height: 16,
        };
        let interlaced = Sps { is_progressive: false, ..progressive.clone() };
        let planes = Sps { has_separate_planes: true, ..progressive.clone() };
        let header = |slice_type| SliceHeader { slice_type, frame_num: 5, pic_order_cnt_lsb: Some(6) };
        // first_mb 0, P 0, pps 0; frame_num 0101; count 0110.
        let nal = [0x41, 0b1110_1010, 0b1101_1111];
        assert_eq!(SliceHeader::parse(&nal, &progressive), Some(header(SliceType::P)));
        // A bottom field: 11 before the count.
        let nal = [0x41, 0b1110_1011, 0b1011_0111];
        assert_eq!(SliceHeader::parse(&nal, &interlaced), Some(header(SliceType::P)));
        // The third plane: 10 before frame_num.
        let nal = [0x41, 0b1111_0010, 0b1011_0111];
        assert_eq!(SliceHeader::parse(&nal, &planes), Some(header(SliceType::P)));
        // A keyframe: first_mb 0, I "011", pps 0, frame_num, idr_pic_id 1 "010", count.
        let nal = [0x65, 0b1011_1010, 0b1010_0110];
        assert_eq!(SliceHeader::parse(&nal, &progressive), Some(header(SliceType::I)));
        for len in 0..nal.len() {
            assert_eq!(SliceHeader::parse(&nal[..len], &progressive), None, "{len} bytes");
        }
    }
}
