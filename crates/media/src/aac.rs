//! AAC: the `AudioSpecificConfig` (ISO/IEC 14496-3, section 1.6.2.1) and ADTS headers where they do not belong.
mod sbr;

use thiserror::Error;

pub use self::sbr::SbrSearch;
use crate::bits::Bits;

/// Table 1.18: the sampling rates that have an index.
const RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// The index that stands for a rate of 24 bits behind it.
const RATE_ESCAPE: u32 = 15;
/// Table 1.17: object types.
const LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;
/// Table 1.15: what announces an extension behind the core, and another behind that.
const SYNC_EXTENSION_SBR: u32 = 0x2b7;
const SYNC_EXTENSION_PS: u32 = 0x548;

/// What a decoder of the low-complexity core needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Samples a second of the core; HE-AAC doubles it, which is not decoded here.
    pub rate_hz: u32,
    /// Channels of the core.
    pub channels: u8,
}

/// What HE-AAC adds to its core. It is not decoded: the core alone sounds dull, and mono where it was parametric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HighEfficiency {
    /// Spectral band replication: the upper half of the spectrum.
    Sbr,
    /// Parametric stereo as well.
    ParametricStereo,
}

/// Why sound cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AacError {
    /// It ends too early or says what cannot be.
    #[error("the AAC configuration is damaged")]
    Damaged,
    /// Not a kind of AAC that is decoded. The text is for the teacher.
    #[error("The app sends {}, which cannot be decoded; choose AAC-LC in its settings", object_name(*.0))]
    ObjectType(u8),
    /// Frames of 960 samples, as in digital radio. The text is for the teacher.
    #[error(
        "The app sends AAC in frames of 960 samples, which cannot be decoded; choose AAC-LC in its settings"
    )]
    ShortFrames,
    /// Channels that are arranged by a table of their own, or in a way without a name. The text is for the teacher.
    #[error(
        "The app sends sound with an unusual arrangement of channels; choose mono or stereo in its settings"
    )]
    Arrangement,
}

impl AudioSpecificConfig {
    /// Reads a configuration. Of HE-AAC, signalled by hierarchy or by what follows the core, the core is taken.
    pub fn parse(config: &[u8]) -> Result<Self, AacError> {
        let (core, _) = read_core(&mut Bits::of(config))?;
        Ok(core)
    }

    /// The two bytes that say the same of a plain low-complexity stream; a rate without an index becomes the nearest
    /// with one.
    pub fn to_bytes(self) -> [u8; 2] {
        let nearest = RATES_HZ.iter().enumerate().min_by_key(|(_, rate)| rate.abs_diff(self.rate_hz));
        let index = nearest.and_then(|(index, _)| u8::try_from(index).ok()).unwrap_or(4);
        let channels = if self.channels == 8 { 7 } else { self.channels };
        [LC << 3 | index >> 1, index << 7 | channels << 3]
    }
}

impl HighEfficiency {
    /// What a configuration announces. Streams that announce nothing may still carry it.
    pub fn parse(config: &[u8]) -> Option<Self> {
        let mut bits = Bits::of(config);
        let (_, hierarchical) = read_core(&mut bits).ok()?;
        hierarchical.or_else(|| Self::read_sync_extension(&mut bits))
    }

    fn of(object_type: u8) -> Option<Self> {
        match object_type {
            SBR => Some(Self::Sbr),
            PS => Some(Self::ParametricStereo),
            _ => None,
        }
    }

    fn read_sync_extension(bits: &mut Bits<'_>) -> Option<Self> {
        if bits.bits(11)? != SYNC_EXTENSION_SBR || read_object_type(bits)? != SBR || !bits.bit()? {
            return None;
        }
        let _doubled_rate_hz = read_rate(bits)?;
        let has_stereo = bits.bits(11) == Some(SYNC_EXTENSION_PS) && bits.bit() == Some(true);
        Some(if has_stereo { Self::ParametricStereo } else { Self::Sbr })
    }
}

/// The core and what stood before it; what may follow it comes next.
fn read_core(bits: &mut Bits<'_>) -> Result<(AudioSpecificConfig, Option<HighEfficiency>), AacError> {
    let first_type = read_object_type(bits).ok_or(AacError::Damaged)?;
    let rate_hz = read_rate(bits).ok_or(AacError::Damaged)?;
    let arrangement = bits.bits(4).ok_or(AacError::Damaged)?;
    let hierarchical = HighEfficiency::of(first_type);
    let mut object_type = first_type;
    if hierarchical.is_some() {
        let _doubled_rate_hz = read_rate(bits).ok_or(AacError::Damaged)?;
        object_type = read_object_type(bits).ok_or(AacError::Damaged)?;
    }
    if object_type != LC {
        return Err(AacError::ObjectType(object_type));
    }
    // Table 1.19.
    let channels = match u8::try_from(arrangement) {
        Ok(channels @ 1..=6) => channels,
        Ok(7) => 8,
        _ => return Err(AacError::Arrangement),
    };
    // Section 4.4.1. Encoders that leave these bits out mean 0.
    if bits.bit() == Some(true) {
        return Err(AacError::ShortFrames);
    }
    if bits.bit() == Some(true) {
        let _core_coder_delay = bits.bits(14);
    }
    let _has_extension = bits.bit();
    Ok((AudioSpecificConfig { rate_hz, channels }, hierarchical))
}

fn read_object_type(bits: &mut Bits<'_>) -> Option<u8> {
    match u8::try_from(bits.bits(5)?).ok()? {
        31 => u8::try_from(bits.bits(6)?).ok()?.checked_add(32),
        object_type => Some(object_type),
    }
}

fn read_rate(bits: &mut Bits<'_>) -> Option<u32> {
    let rate_hz = match bits.bits(4)? {
        RATE_ESCAPE => bits.bits(24)?,
        index => RATES_HZ.get(usize::try_from(index).ok()?).copied()?,
    };
    (7_350..=96_000).contains(&rate_hz).then_some(rate_hz)
}

/// The names of table 1.17 that the apps' settings show.
fn object_name(object_type: u8) -> String {
    match object_type {
        1 => "AAC Main".to_owned(),
        4 => "AAC-LTP".to_owned(),
        23 => "AAC-LD".to_owned(),
        39 => "AAC-ELD".to_owned(),
        42 => "xHE-AAC".to_owned(),
        other => format!("AAC of object type {other}"),
    }
}

/// Takes an ADTS header (section 1.A.2) off a frame that should have none, and says what it was.
///
/// A raw frame does not begin like one: its first three bits would be the end of the frame.
pub fn strip_adts(frame: &[u8]) -> Option<(AudioSpecificConfig, &[u8])> {
    let &[0xff, b1, b2, b3, b4, b5, _] = frame.first_chunk::<7>()? else { return None };
    // The rest of the sync word, and the layer, which is 0.
    if b1 & 0xf6 != 0xf0 {
        return None;
    }
    let rate_hz = *RATES_HZ.get(usize::from(b2 >> 2 & 0x0f))?;
    let channels = match (b2 & 1) << 2 | b3 >> 6 {
        0 => 1,
        7 => 8,
        channels => channels,
    };
    let header_len = if b1 & 1 == 1 { 7 } else { 9 };
    let frame_len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    Some((AudioSpecificConfig { rate_hz, channels }, frame.get(header_len..frame_len)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn core(rate_hz: u32, channels: u8) -> AudioSpecificConfig {
        AudioSpecificConfig { rate_hz, channels }
    }

    #[test]
    fn plain_and_high_efficiency_configurations_give_their_core() {
        for (bytes, expected, extension) in [
            (&[0x12, 0x10][..], core(44_100, 2), None),
            (&[0x12, 0x08], core(44_100, 1), None),
            (&[0x12, 0x90], core(32_000, 2), None),
            (&[0x11, 0x90], core(48_000, 2), None),
            (&[0x11, 0xb8], core(48_000, 8), None),
            // A rate without an index: 44,056 Hz.
            (&[0x17, 0x80, 0x56, 0x0c, 0x10], core(44_056, 2), None),
            // Object type 2, index 6, stereo; behind it 0x2b7, type 5, present, index 3.
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], core(24_000, 2), Some(HighEfficiency::Sbr)),
            // The same in mono, and behind that 0x548, present.
            (
                &[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80],
                core(24_000, 1),
                Some(HighEfficiency::ParametricStereo),
            ),
            // Announced but said to be absent.
            (&[0x13, 0x10, 0x56, 0xe5, 0x00], core(24_000, 2), None),
            // The extension comes first: SBR, 24 kHz, stereo, 48 kHz, LC.
            (&[0x2b, 0x11, 0x88, 0x00], core(24_000, 2), Some(HighEfficiency::Sbr)),
            // Parametric stereo, 22.05 kHz, mono, 44.1 kHz, LC.
            (&[0xeb, 0x8a, 0x08, 0x00], core(22_050, 1), Some(HighEfficiency::ParametricStereo)),
        ] {
            assert_eq!(AudioSpecificConfig::parse(bytes), Ok(expected), "{bytes:x?}");
            assert_eq!(HighEfficiency::parse(bytes), extension, "{bytes:x?}");
        }
    }

    #[test]
    fn the_short_form_means_the_same() {
        for rate_hz in RATES_HZ {
            for channels in [1, 2, 6, 8] {
                let config = core(rate_hz, channels);
                assert_eq!(AudioSpecificConfig::parse(&config.to_bytes()), Ok(config));
            }
        }
        assert_eq!(AudioSpecificConfig::parse(&core(44_056, 2).to_bytes()), Ok(core(44_100, 2)));
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        for (bytes, expected, text) in [
            (&[0xba, 0x10][..], AacError::ObjectType(23), "AAC-LD"),
            (&[0xf8, 0xe6, 0x40, 0x00], AacError::ObjectType(39), "AAC-ELD"),
            (&[0xf9, 0x46, 0x40, 0x00], AacError::ObjectType(42), "xHE-AAC"),
            (&[0x8a, 0x10], AacError::ObjectType(17), "object type 17"),
            (&[0x12, 0x14], AacError::ShortFrames, "960"),
            (&[0x12, 0x00], AacError::Arrangement, "mono or stereo"),
            (&[0x12, 0x58], AacError::Arrangement, "mono or stereo"),
        ] {
            let error = AudioSpecificConfig::parse(bytes).unwrap_err();
            assert_eq!(error, expected, "{bytes:x?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        // Nothing, half a configuration, an index without a rate, rates of 1 Hz and of 16 MHz.
        for bytes in
            [&[][..], &[0x12], &[0x16, 0x90], &[0x17, 0x80, 0, 0, 0x90], &[0x17, 0xff, 0xff, 0xff, 0x90]]
        {
            assert_eq!(AudioSpecificConfig::parse(bytes), Err(AacError::Damaged), "{bytes:x?}");
        }
    }

    #[test]
    fn an_adts_header_is_taken_off() {
        let frame = [0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 0xde, 0x02];
        assert_eq!(strip_adts(&frame), Some((core(44_100, 2), &[0xde, 0x02][..])));
        // With a checksum behind it; the length counts it.
        let frame = [0xff, 0xf0, 0x4c, 0x40, 0x01, 0x5f, 0xfc, 0xab, 0xcd, 0x21];
        assert_eq!(strip_adts(&frame), Some((core(48_000, 1), &[0x21][..])));
    }

    #[test]
    fn what_only_begins_like_an_adts_header_is_left_alone() {
        assert_eq!(strip_adts(&[0x21, 0x10, 0, 0, 0, 0, 0, 0]), None);
        // A length beyond the frame, one within the header, and a layer.
        assert_eq!(strip_adts(&[0xff, 0xf1, 0x50, 0x80, 0x01, 0x5f, 0xfc, 0xde, 0x02]), None);
        assert_eq!(strip_adts(&[0xff, 0xf1, 0x50, 0x80, 0x00, 0x3f, 0xfc, 0xde, 0x02]), None);
        assert_eq!(strip_adts(&[0xff, 0xf3, 0x50, 0x80, 0x01, 0x3f, 0xfc, 0xde, 0x02]), None);
    }
}
