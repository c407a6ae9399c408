//! AAC: the `AudioSpecificConfig` (ISO/IEC 14496-3, section 1.6.2.1) and ADTS headers where they do not belong.
use thiserror::Error;

/// Table 1.18: the sampling rates that have an index.
const RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;

/// What a decoder of the low-complexity core needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Samples a second of the core; HE-AAC doubles it, which is not decoded here.
    pub rate_hz: u32,
    /// Channels of the core.
    pub channels: u8,
}

/// Why sound cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AacError {
    /// It ends too early or says what cannot be.
    #[error("the AAC configuration is damaged")]
    Damaged,
    /// Not a kind of AAC that is decoded. The text is for the teacher.
    #[error("the app sends AAC of object type {0}, which cannot be decoded; choose AAC-LC in its settings")]
    ObjectType(u8),
}

impl AudioSpecificConfig {
    /// Reads a configuration. Of HE-AAC, signalled by hierarchy or by what follows the core, the core is taken.
    pub fn parse(config: &[u8]) -> Result<Self, AacError> {
        let mut bits = Bits { bytes: config, at: 0 };
        let mut object_type = bits.object_type()?;
        let mut rate_hz = bits.rate()?;
        let channels = u8::try_from(bits.take(4)?).map_err(|_| AacError::Damaged)?;
        if matches!(object_type, SBR | PS) {
            let _extension_rate = bits.rate()?;
            object_type = bits.object_type()?;
        }
        if object_type != LC {
            return Err(AacError::ObjectType(object_type));
        }
        if !(1..=7).contains(&channels) {
            return Err(AacError::Damaged);
        }
        rate_hz = rate_hz.clamp(7_350, 96_000);
        Ok(Self { rate_hz, channels: if channels == 7 { 8 } else { channels } })
    }

    /// The two bytes that say the same of a plain low-complexity stream.
    pub fn to_bytes(self) -> [u8; 2] {
        let nearest = RATES_HZ.iter().enumerate().min_by_key(|(_, rate)| rate.abs_diff(self.rate_hz));
        let index = nearest.and_then(|(index, _)| u8::try_from(index).ok()).unwrap_or(4);
        let channels = if self.channels == 8 { 7 } else { self.channels };
        [LC << 3 | index >> 1, index << 7 | channels << 3]
    }
}

/// Takes an ADTS header (section 1.A.2) off a frame that should have none, and says what it was.
pub fn strip_adts(frame: &[u8]) -> Option<(AudioSpecificConfig, &[u8])> {
    let &[0xff, second, third, fourth, ..] = frame.first_chunk::<7>()? else { return None };
    if second & 0xf6 != 0xf0 {
        return None;
    }
    let rate_hz = *RATES_HZ.get(usize::from(third >> 2 & 0x0f))?;
    let channels = (third & 1) << 2 | fourth >> 6;
    let header_len = if second & 1 == 1 { 7 } else { 9 };
    Some((AudioSpecificConfig { rate_hz, channels: channels.max(1) }, frame.get(header_len..)?))
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<u32, AacError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(AacError::Damaged)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u8, AacError> {
        let value = match self.take(5)? {
            31 => 32 + self.take(6)?,
            value => value,
        };
        u8::try_from(value).map_err(|_| AacError::Damaged)
    }

    fn rate(&mut self) -> Result<u32, AacError> {
        match self.take(4)? {
            15 => self.take(24),
            index => {
                usize::try_from(index).ok().and_then(|i| RATES_HZ.get(i).copied()).ok_or(AacError::Damaged)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_high_efficiency_configurations_give_their_core() {
        for (bytes, rate_hz, channels) in [
            (&[0x12, 0x10][..], 44_100, 2),
            (&[0x12, 0x08], 44_100, 1),
            (&[0x12, 0x90], 32_000, 2),
            (&[0x11, 0x90], 48_000, 2),
            // 24 kHz core, the extension follows behind the core (0x2b7).
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], 24_000, 2),
            // The extension comes first: SBR, 24 kHz, stereo, 48 kHz, LC.
            (&[0x2b, 0x11, 0x88], 24_000, 2),
        ] {
            assert_eq!(
                AudioSpecificConfig::parse(bytes),
                Ok(AudioSpecificConfig { rate_hz, channels }),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn the_short_form_means_the_same() {
        for rate_hz in RATES_HZ {
            for channels in [1, 2, 6, 8] {
                let config = AudioSpecificConfig { rate_hz, channels };
                assert_eq!(AudioSpecificConfig::parse(&config.to_bytes()), Ok(config));
            }
        }
    }

    #[test]
    fn other_kinds_and_damage_are_errors() {
        assert_eq!(AudioSpecificConfig::parse(&[]), Err(AacError::Damaged));
        assert_eq!(AudioSpecificConfig::parse(&[0x12]), Err(AacError::Damaged));
        assert_eq!(AudioSpecificConfig::parse(&[0xba, 0x10]), Err(AacError::ObjectType(23)));
        for first in 0..=255 {
            for second in 0..=255 {
                let _ = AudioSpecificConfig::parse(&[first, second, 0x55]);
            }
        }
    }

    #[test]
    fn an_adts_header_is_taken_off() {
        let frame = [0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 0xde, 0x02];
        let (config, rest) = strip_adts(&frame).unwrap();
        assert_eq!((config.rate_hz, config.channels, rest), (44_100, 2, &[0xde, 0x02][..]));
        assert!(strip_adts(&[0x21, 0x10, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
