//! Sequence parameter sets: section 7.3.2.1.1.
use super::H264Error;
use crate::bits::Bits;

/// Pixels of width or height at most; level 6.2 allows no more.
const SIDE_MAX: u32 = 16_384;
/// Entries of `offset_for_ref_frame` at most (section 7.4.2.1.1).
const POC_CYCLE_MAX: u32 = 255;
/// Pictures that may be kept for reference at most (section A.3.1, `MaxDpbFrames`).
const REFERENCES_MAX: u32 = 16;

/// What a sequence parameter set says, as far as somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// 66 Baseline, 77 Main, 100 High.
    pub profile_idc: u8,
    /// The constraint flags, first one in the highest bit.
    pub constraints: u8,
    /// Ten times the level.
    pub level_idc: u8,
    /// 1 for 4:2:0.
    pub chroma_format_idc: u32,
    /// Whether the three colours are coded as if each were a picture of its own.
    pub has_separate_planes: bool,
    /// Of luma or chroma, whichever is greater.
    pub bit_depth: u32,
    /// Bits of `frame_num` in slice headers.
    pub frame_num_bits: u32,
    /// How slices say which picture is shown first.
    pub order: PictureOrder,
    /// Pictures that others may refer to at one time: `max_num_ref_frames`.
    pub references_max: u32,
    /// Whether every picture is a whole frame, not one of two fields.
    pub is_progressive: bool,
    /// Pixels after cropping.
    pub width: u32,
    /// Pixels after cropping.
    pub height: u32,
}

/// `pic_order_cnt_type`: how the order of display is coded (section 8.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureOrder {
    /// Every slice carries the low bits of a number.
    Counted {
        /// How many bits: 4 to 16.
        lsb_bits: u32,
    },
    /// From `frame_num` and a repeating pattern.
    Patterned,
    /// As the pictures come: there are no B-frames.
    AsDecoded,
}

struct Chroma {
    format_idc: u32,
    has_separate_planes: bool,
    bit_depth: u32,
}

impl Sps {
    /// Of a NAL unit with its header byte.
    pub fn parse(nal: &[u8]) -> Result<Self, H264Error> {
        Self::read(nal).ok_or(H264Error::Damaged("sequence parameter set"))
    }

    fn read(nal: &[u8]) -> Option<Self> {
        let &[header, profile_idc, constraints, level_idc] = nal.first_chunk::<4>()?;
        if header & 0x1f != 7 {
            return None;
        }
        let mut bits = Bits::of_payload(nal.get(4..)?);
        let _id = bits.ue()?;
        let chroma = read_chroma(&mut bits, profile_idc)?;
        let frame_num_bits = read_bit_count(&mut bits)?;
        let order = PictureOrder::read(&mut bits)?;
        let references_max = bits.ue().filter(|count| *count <= REFERENCES_MAX)?;
        let _gaps_in_frame_num_allowed = bits.bit()?;
        let width_mbs = bits.ue()?.checked_add(1)?;
        let height_units = bits.ue()?.checked_add(1)?;
        let is_progressive = bits.bit()?;
        if !is_progressive {
            let _adaptive_frame_field = bits.bit()?;
        }
        let _direct_8x8_inference = bits.bit()?;
        let fields: u32 = if is_progressive { 1 } else { 2 };
        let (crop_x, crop_y) = read_cropping(&mut bits, &chroma, fields)?;
        let width = width_mbs.checked_mul(16)?.checked_sub(crop_x)?;
        let height = height_units.checked_mul(16)?.checked_mul(fields)?.checked_sub(crop_y)?;
        let is_sane = (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height);
        // Usability information follows: nothing here depends on it, and cameras are known to write it wrong.
        is_sane.then_some(Self {
            profile_idc,
            constraints,
            level_idc,
            chroma_format_idc: chroma.format_idc,
            has_separate_planes: chroma.has_separate_planes,
            bit_depth: chroma.bit_depth,
            frame_num_bits,
            order,
            references_max,
            is_progressive,
            width,
            height,
        })
    }
}

impl PictureOrder {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        match bits.ue()? {
            0 => Some(Self::Counted { lsb_bits: read_bit_count(bits)? }),
            1 => {
                let _delta_always_zero = bits.bit()?;
                let _offset_for_non_reference = bits.se()?;
                let _offset_for_top_to_bottom = bits.se()?;
                for _ in 0..bits.ue().filter(|count| *count <= POC_CYCLE_MAX)? {
                    bits.se()?;
                }
                Some(Self::Patterned)
            }
            2 => Some(Self::AsDecoded),
            _ => None,
        }
    }
}

/// `log2_max_frame_num_minus4` and its like: 4 to 16 bits.
fn read_bit_count(bits: &mut Bits<'_>) -> Option<u32> {
    bits.ue()?.checked_add(4).filter(|count| *count <= 16)
}

/// Profiles up to Extended say nothing here and mean 8 bits of 4:2:0.
fn read_chroma(bits: &mut Bits<'_>, profile_idc: u8) -> Option<Chroma> {
    if !matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        return Some(Chroma { format_idc: 1, has_separate_planes: false, bit_depth: 8 });
    }
    let format_idc = bits.ue().filter(|format| *format <= 3)?;
    let has_separate_planes = format_idc == 3 && bits.bit()?;
    let bit_depth = bits.ue()?.max(bits.ue()?).checked_add(8)?;
    let _transform_bypass = bits.bit()?;
    if bits.bit()? {
        let lists = if format_idc == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.bit()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(Chroma { format_idc, has_separate_planes, bit_depth })
}

/// Section 7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = last.checked_add(bits.se()?)?.rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// What is cut off, in pixels. It is coded in units of chroma samples (equations 7-19 to 7-22).
fn read_cropping(bits: &mut Bits<'_>, chroma: &Chroma, fields: u32) -> Option<(u32, u32)> {
    if !bits.bit()? {
        return Some((0, 0));
    }
    let (unit_x, unit_y): (u32, u32) = match chroma.format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let x = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
    let y = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?.checked_mul(fields)?;
    Some((x, y))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ffmpeg and x264 write them: a phone held upright, constrained baseline, 1080x1920 cut out of 1088x1920.
    const PORTRAIT: [u8; 25] = [
        0x67, 0x42, 0xc0, 0x28, 0xd9, 0x00, 0x44, 0x03, 0xc7, 0x97, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
        0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc9,
    ];
    /// 1920x1080 cut out of 1920x1088, High, up to two B-frames in a row.
    const HIGH: [u8; 26] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00,
        0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6,
    ];
    /// The same as fields.
    const INTERLACED: [u8; 26] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x04, 0x4f, 0xde, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00,
        0x20, 0x00, 0x00, 0x07, 0x83, 0xe2, 0xc5, 0xb2, 0xc0,
    ];
    /// x264, High, 1280x720.
    const HIGH_720: [u8; 25] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00,
        0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07,
    ];
    /// A phone that says nothing of usability: 640x360 without cropping would be 640x368.
    const NO_VUI: [u8; 10] = [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70];

    #[test]
    fn sizes_are_read_with_cropping() {
        for (nal, size) in [
            (&PORTRAIT[..], (1080, 1920)),
            (&HIGH, (1920, 1080)),
            (&INTERLACED, (1920, 1080)),
            (&HIGH_720, (1280, 720)),
            (&NO_VUI, (640, 360)),
        ] {
            let sps = Sps::parse(nal).unwrap();
            assert_eq!((sps.width, sps.height), size, "{nal:x?}");
        }
        assert!(!Sps::parse(&INTERLACED).unwrap().is_progressive);
    }

    #[test]
    fn everything_asked_for_is_as_the_encoder_set_it() {
        let expected = Sps {
            profile_idc: 66,
            constraints: 0xc0,
            level_idc: 40,
            chroma_format_idc: 1,
            has_separate_planes: false,
            bit_depth: 8,
            frame_num_bits: 4,
            order: PictureOrder::AsDecoded,
            references_max: 3,
            is_progressive: true,
            width: 1080,
            height: 1920,
        };
        assert_eq!(Sps::parse(&PORTRAIT), Ok(expected));
        let high = Sps::parse(&HIGH).unwrap();
        assert_eq!(high.order, PictureOrder::Counted { lsb_bits: 6 });
    }

    #[test]
    fn a_set_that_is_cut_off_in_its_usability_information_still_gives_the_size() {
        for len in 11..PORTRAIT.len() - 2 {
            let sps = Sps::parse(&PORTRAIT[..len]).unwrap();
            assert_eq!((sps.width, sps.height), (1080, 1920), "{len} bytes");
        }
        for len in 0..9 {
            assert!(Sps::parse(&PORTRAIT[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn another_kind_of_nal_unit_is_refused() {
        let mut nal = PORTRAIT;
        nal[0] = 0x68;
        assert_eq!(Sps::parse(&nal), Err(H264Error::Damaged("sequence parameter set")));
    }
}
