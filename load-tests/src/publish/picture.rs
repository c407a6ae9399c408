//! H.264 pictures of any wanted size that every decoder decodes, made without an encoder.
//!
//! A picture is one slice. As many macroblocks as fit are written raw (`I_PCM`, 384 bytes each); the others are
//! predicted: from their neighbours in an IDR picture, from the picture before (skipped) in all others. What is left up
//! to the wanted size stands behind the end of the slice, where decoders do not look.

/// From x264: constrained baseline, level 3.1, 1280x720, one reference, no B-frames, `frame_num` of 4 bits.
pub(super) const SPS: [u8; 23] = [
    0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xec, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00,
    0x00, 0x0f, 0x03, 0xc6, 0x0c, 0xa8,
];
/// From x264: CAVLC, one slice group, deblocking as the slices say.
pub(super) const PPS: [u8; 5] = [0x68, 0xce, 0x0f, 0x2c, 0x80];
/// Pixels.
pub(super) const WIDTH: u32 = 1280;
/// Pixels.
pub(super) const HEIGHT: u32 = 720;

/// Macroblocks in a row and in a picture.
const ROW: usize = 80;
const MACROBLOCKS: usize = 3600;
/// Samples of a macroblock: 256 of brightness, twice 64 of colour.
const LUMA: usize = 256;
const CHROMA: usize = 128;
/// A raw macroblock with its header and what aligns it.
const RAW_LEN: usize = 2 + LUMA + CHROMA;
/// Slice header, trailing bits and emulation prevention in a picture, beside its macroblocks.
const FRAME_LEN: usize = 24;
/// Bytes of the predicted macroblocks of an IDR picture: one each, and 5 bits more where a raw one is above or beside.
const PREDICTED_LEN: usize = 5 * (2 * ROW + 2) / 8;
/// Values of `frame_num` before it begins again: 4 bits, as the parameter set says.
const FRAME_NUMS: u64 = 16;
/// What fills up a picture: no zero, so that no start code comes about.
const FILLER: u8 = 0xa5;

/// Which picture of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    /// Since the stream's beginning: decides where the raw macroblocks are and how bright.
    pub(super) number: u64,
    /// Since the last IDR picture; 0 is one.
    pub(super) since_idr: u64,
    /// Of the IDR picture: two in a row must differ.
    pub(super) idr: u64,
}

impl Picture {
    /// The NAL unit, `len` bytes long. An IDR picture is never shorter than about 3,700 bytes, any other than 24.
    pub(super) fn build(self, len: usize) -> Vec<u8> {
        let is_idr = self.since_idr == 0;
        let mut bits = Bits::with_capacity(len);
        self.write_header(&mut bits, is_idr);
        if is_idr {
            self.write_intra(&mut bits, len);
        } else {
            self.write_skipped(&mut bits, len);
        }
        // rbsp_trailing_bits, section 7.3.2.11.
        bits.put(1, 1);
        bits.align();
        let mut nal = vec![if is_idr { 0x65 } else { 0x41 }];
        nal.reserve(len.max(bits.bytes.len() + 8));
        push_escaped(&mut nal, &bits.bytes);
        if nal.len() < len {
            nal.resize(len, FILLER);
        }
        nal
    }

    /// Section 7.3.3, for the parameter sets above.
    fn write_header(self, bits: &mut Bits, is_idr: bool) {
        bits.ue(0); // first_mb_in_slice
        bits.ue(if is_idr { 7 } else { 5 }); // slice_type: all of the picture are I or P
        bits.ue(0); // pic_parameter_set_id
        bits.put(self.since_idr % FRAME_NUMS, 4);
        if is_idr {
            bits.ue(self.idr % 2); // idr_pic_id
            bits.put(0, 2); // no_output_of_prior_pics_flag, long_term_reference_flag
        } else {
            bits.put(0, 2); // num_ref_idx_active_override_flag, ref_pic_list_modification_flag_l0
            bits.put(0, 1); // adaptive_ref_pic_marking_mode_flag
        }
        bits.ue(0); // slice_qp_delta: se(0) looks the same
        bits.ue(1); // disable_deblocking_filter_idc
    }

    /// Raw macroblocks first, then such as take over the mean of their neighbours.
    fn write_intra(self, bits: &mut Bits, len: usize) {
        let room = len.saturating_sub(FRAME_LEN + PREDICTED_LEN + MACROBLOCKS);
        let raw = (room / (RAW_LEN - 1)).min(MACROBLOCKS);
        let count_at = |at: usize| if at < raw { 16_u32 } else { 0 };
        for at in 0..MACROBLOCKS {
            if at < raw {
                bits.ue(25); // mb_type I_PCM
                self.write_raw(bits, at);
                continue;
            }
            bits.ue(3); // mb_type I_16x16_2_0_0: the mean of the neighbours, nothing added
            bits.ue(0); // intra_chroma_pred_mode: the mean too
            bits.ue(0); // mb_qp_delta
            // coeff_token for no coefficients, by how many the neighbours have (section 9.2.1, table 9-5).
            let left = (at % ROW > 0).then(|| count_at(at - 1));
            let above = at.checked_sub(ROW).map(count_at);
            let expected = match (left, above) {
                (Some(left), Some(above)) => (left + above).div_ceil(2),
                (one, other) => one.or(other).unwrap_or(0),
            };
            if expected < 2 { bits.put(1, 1) } else { bits.put(0b00_0011, 6) }
        }
    }

    /// Raw macroblocks somewhere among such as stay what they were.
    fn write_skipped(self, bits: &mut Bits, len: usize) {
        let raw = (len.saturating_sub(FRAME_LEN) / RAW_LEN).min(MACROBLOCKS);
        let others = MACROBLOCKS - raw;
        let places = u64::try_from(others).unwrap_or(0) + 1;
        let before = usize::try_from(self.number.wrapping_mul(ROW as u64 + 7) % places).unwrap_or(0);
        let mut skipped = before;
        for at in 0..raw {
            bits.ue(skipped as u64); // mb_skip_run
            bits.ue(30); // mb_type I_PCM in a P slice
            self.write_raw(bits, before + at);
            skipped = 0;
        }
        if others > before || raw == 0 {
            bits.ue((others - if raw == 0 { 0 } else { before }) as u64);
        }
    }

    /// One even tile: bright or dark by its place and time.
    fn write_raw(self, bits: &mut Bits, at: usize) {
        let shade = (self.number.wrapping_mul(5).wrapping_add(at as u64 * 37)) % 200 + 16;
        bits.align();
        bits.bytes.resize(bits.bytes.len() + LUMA, u8::try_from(shade).unwrap_or(128));
        bits.bytes.resize(bits.bytes.len() + CHROMA, 128);
    }
}

/// Bits, the first one highest.
#[derive(Debug)]
struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits {
    fn with_capacity(len: usize) -> Self {
        Self { bytes: Vec::with_capacity(len), pending: 0, count: 0 }
    }

    /// The low `count` bits of `value`; 32 at most.
    fn put(&mut self, value: u64, count: u32) {
        self.pending = self.pending << count | value;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.pending >> self.count).to_le_bytes()[0]);
        }
        self.pending &= (1 << self.count) - 1;
    }

    /// An unsigned number in Exp-Golomb code: section 9.1.
    fn ue(&mut self, value: u64) {
        let coded = value + 1;
        let len = 64 - coded.leading_zeros();
        self.put(0, len - 1);
        self.put(coded, len);
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }
}

/// Section 7.4.1: no three bytes may look like a start code.
fn push_escaped(nal: &mut Vec<u8>, payload: &[u8]) {
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            nal.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use media::h264::Sps;

    use super::*;

    const IDR: Picture = Picture { number: 60, since_idr: 0, idr: 1 };
    const OTHER: Picture = Picture { number: 61, since_idr: 1, idr: 1 };

    #[test]
    fn the_parameter_sets_say_what_the_slices_assume() {
        let sps = Sps::parse(&SPS).unwrap();
        assert_eq!((sps.width, sps.height, sps.frame_num_bits), (WIDTH, HEIGHT, 4));
        assert_eq!(sps.order, media::h264::sps::PictureOrder::AsDecoded);
    }

    #[test]
    fn pictures_have_the_wanted_length() {
        for len in [4_000, 4_500, 10_000, 46_401, 1_000_000, 1_500_000] {
            assert_eq!(IDR.build(len).len(), len);
        }
        for len in [24, 25, 400, 1_158, 4_633, 100_000, 1_500_000] {
            for number in [0, 1, 7, 1000, u64::MAX] {
                assert_eq!(Picture { number, ..OTHER }.build(len).len(), len);
            }
        }
    }

    #[test]
    fn short_wishes_give_the_shortest_picture() {
        assert!((3_600..3_800).contains(&IDR.build(0).len()));
        assert!(OTHER.build(0).len() < 24);
    }

    #[test]
    fn nothing_in_a_picture_looks_like_a_start_code() {
        for nal in [IDR.build(0), IDR.build(50_000), OTHER.build(0), OTHER.build(5_000)] {
            assert!(!nal.windows(3).any(|bytes| matches!(bytes, [0, 0, 0..=2])));
            assert_ne!(nal.last(), Some(&0));
        }
    }

    #[test]
    fn numbers_are_coded_as_the_standard_says() {
        let mut bits = Bits::with_capacity(8);
        for value in [0, 1, 2, 7] {
            bits.ue(value);
        }
        bits.align();
        assert_eq!(bits.bytes, [0b1010_0110, 0b0010_0000]);
    }
}
