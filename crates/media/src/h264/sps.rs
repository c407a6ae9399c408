//! Sequence parameter sets: section 7.3.2.1.1.
use super::H264Error;
use super::bits::Bits;

/// Pictures are at most this wide and high; level 6.2 allows no more.
const SIDE_MAX: u32 = 16_384;

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
    /// Of luma or chroma, whichever is greater.
    pub bit_depth: u32,
    /// Pixels after cropping.
    pub width: u32,
    /// Pixels after cropping.
    pub height: u32,
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
        let (mut chroma_format_idc, mut bit_depth) = (1, 8);
        if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format_idc = bits.ue()?;
            if chroma_format_idc == 3 {
                bits.bit()?;
            }
            bit_depth = bits.ue()?.max(bits.ue()?).checked_add(8)?;
            bits.bit()?;
            if bits.bit()? {
                let lists = if chroma_format_idc == 3 { 12 } else { 8 };
                for list in 0..lists {
                    if bits.bit()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let _max_frame_num = bits.ue()?;
        match bits.ue()? {
            0 => drop(bits.ue()?),
            1 => {
                bits.bit()?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bits.ue()?.min(255) {
                    bits.se()?;
                }
            }
            _ => {}
        }
        let _reference_frames = bits.ue()?;
        bits.bit()?;
        let width_mbs = bits.ue()?.checked_add(1)?;
        let height_units = bits.ue()?.checked_add(1)?;
        let is_progressive = bits.bit()?;
        if !is_progressive {
            bits.bit()?;
        }
        bits.bit()?;
        let fields = if is_progressive { 1 } else { 2 };
        // Cropping counts in units of chroma samples (equations 7-19 to 7-22).
        let unit_x = if matches!(chroma_format_idc, 1 | 2) { 2 } else { 1 };
        let unit_y = fields * if chroma_format_idc == 1 { 2 } else { 1 };
        let (mut crop_x, mut crop_y) = (0, 0);
        if bits.bit()? {
            crop_x = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
            crop_y = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?;
        }
        let width = width_mbs.checked_mul(16)?.checked_sub(crop_x)?;
        let height = height_units.checked_mul(16 * fields)?.checked_sub(crop_y)?;
        let is_sane = (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height);
        is_sane.then_some(Self {
            profile_idc,
            constraints,
            level_idc,
            chroma_format_idc,
            bit_depth,
            width,
            height,
        })
    }
}

/// Section 7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut Bits, size: u32) -> Option<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// x264, High, 1280x720.
    const HIGH_720: [u8; 25] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x6a, 0x02, 0x02, 0x02, 0x80, 0x00,
        0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07,
    ];
    /// A phone, constrained baseline, 640x360: the height is cropped.
    const BASELINE_360: [u8; 10] = [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70];

    #[test]
    fn sizes_are_read_with_cropping() {
        let sps = Sps::parse(&HIGH_720).unwrap();
        assert_eq!((sps.profile_idc, sps.level_idc, sps.width, sps.height), (100, 31, 1280, 720));
        let sps = Sps::parse(&BASELINE_360).unwrap();
        assert_eq!((sps.profile_idc, sps.constraints, sps.width), (66, 0xc0, 640));
        assert!(sps.height == 360 || sps.height == 368, "{}", sps.height);
    }

    #[test]
    fn damaged_sets_are_errors() {
        for len in 0..10 {
            let _ = Sps::parse(&HIGH_720[..len]);
            assert!(Sps::parse(&HIGH_720[..len.min(5)]).is_err());
        }
        let mut state = 3_u32;
        for _ in 0..50_000 {
            let mut bad = HIGH_720;
            for _ in 0..4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bad[(state >> 8) as usize % bad.len()] = u8::try_from(state >> 24).unwrap();
            }
            let _ = Sps::parse(&bad);
        }
    }
}
