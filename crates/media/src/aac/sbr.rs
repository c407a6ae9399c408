//! Spectral band replication that nothing announces: encoders may send HE-AAC under the configuration of its core.
//!
//! It is data in a fill element (ISO/IEC 14496-3, section 4.4.2.7), and the elements before it have no lengths: who does not
//! decode them does not know where they end. But a frame ends with its fill elements and an end of known form, so the
//! frame is searched for a place from which that is what follows. Each frame with the extension has one; in few others there is
//! one by chance.
use crate::bits::Bits;

/// Table 4.85: elements of a frame.
const FILL: u32 = 6;
const END: u32 = 7;
/// Table 4.121: what a fill element may hold.
const SBR_DATA: u32 = 13;
const SBR_DATA_CRC: u32 = 14;
/// Bytes at the end of a frame in which the extension begins: it takes a few dozen.
const SEARCHED: usize = 288;
/// Frames that are looked at, and how many of them must look like it.
const FRAMES: u32 = 32;
const FRAMES_LIKE_IT: u32 = 24;

/// Looks at the first frames of a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct SbrSearch {
    frames: u32,
    found: u32,
}

impl SbrSearch {
    /// Looks at one more frame. Says once, when it knows, that they carry the extension.
    pub fn on_frame(&mut self, frame: &[u8]) -> bool {
        if self.frames >= FRAMES {
            return false;
        }
        self.frames = self.frames.saturating_add(1);
        self.found = self.found.saturating_add(u32::from(ends_with_sbr(frame)));
        self.frames == FRAMES && self.found >= FRAMES_LIKE_IT
    }
}

fn ends_with_sbr(frame: &[u8]) -> bool {
    let tail = frame.get(frame.len().saturating_sub(SEARCHED)..).unwrap_or(frame);
    (0..tail.len().saturating_mul(8)).any(|start| is_sbr_to_the_end(tail, start).is_some())
}

/// Whether fill elements begin here, the first with the extension, and nothing but the end comes behind them.
fn is_sbr_to_the_end(frame: &[u8], start: usize) -> Option<()> {
    let mut bits = Bits::of(frame);
    bits.skip(start)?;
    let mut has_sbr = false;
    loop {
        match bits.bits(3)? {
            FILL => {}
            // What is left of the last byte are zeros.
            END if has_sbr => {
                let rest = u32::try_from(bits.left()).ok().filter(|rest| *rest < 8)?;
                return (bits.bits(rest)? == 0).then_some(());
            }
            _ => return None,
        }
        let mut bytes = bits.bits(4)?;
        if bytes == 15 {
            bytes = bytes.checked_add(bits.bits(8)?)?.checked_sub(1)?;
        }
        let mut left = usize::try_from(bytes).ok()?.checked_mul(8)?;
        if !has_sbr {
            left = left.checked_sub(4)?;
            has_sbr = matches!(bits.bits(4)?, SBR_DATA | SBR_DATA_CRC);
        }
        has_sbr.then_some(())?;
        bits.skip(left)?;
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::flv::AudioTag;
    use crate::flv::file::Tags;

    /// Bits, the first of a number first.
    #[derive(Default)]
    struct Written(Vec<bool>);

    impl Written {
        fn put(&mut self, value: u32, bits: u32) -> &mut Self {
            (0..bits).rev().for_each(|bit| self.0.push(value >> bit & 1 == 1));
            self
        }

        fn fill(&mut self, kind: u32, bytes: u32, random: &mut impl FnMut() -> u32) -> &mut Self {
            self.put(FILL, 3);
            if bytes < 15 {
                self.put(bytes, 4)
            } else {
                self.put(15, 4).put(bytes - 14, 8)
            };
            self.put(kind, 4);
            (0..bytes * 8 - 4).for_each(|_| _ = self.put(random() & 1, 1));
            self
        }

        fn end(&self) -> Vec<u8> {
            let mut bits = self.0.clone();
            bits.extend([true; 3]);
            bits.chunks(8)
                .map(|byte| byte.iter().enumerate().map(|(at, bit)| u8::from(*bit) << (7 - at)).sum())
                .collect()
        }
    }

    fn random(seed: u32) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        }
    }

    fn verdict(mut frame: impl FnMut(u32) -> Vec<u8>) -> bool {
        let mut search = SbrSearch::default();
        (0..100).filter(|index| search.on_frame(&frame(*index))).count() == 1
    }

    #[test]
    fn the_extension_is_found_whatever_its_length_and_whatever_fills_the_frame_behind_it() {
        for bytes in [2, 14, 15, 16, 40, 200] {
            for kind in [SBR_DATA, SBR_DATA_CRC] {
                for padding in [None, Some(1), Some(30)] {
                    let mut random = random(bytes + kind);
                    let found = verdict(|index| {
                        let mut frame = Written::default();
                        (0..1_500 + index % 8).for_each(|_| _ = frame.put(random(), 1));
                        frame.fill(kind, bytes, &mut random);
                        padding.into_iter().for_each(|bytes| _ = frame.fill(0, bytes, &mut random));
                        frame.end()
                    });
                    assert!(found, "{bytes} {kind} {padding:?}");
                }
            }
        }
    }

    #[test]
    fn chance_and_fill_without_the_extension_are_not_taken_for_it() {
        for seed in 0..200 {
            let mut random = random(seed);
            let found = verdict(|index| {
                let mut frame = Written::default();
                (0..1_500 + index % 8).for_each(|_| _ = frame.put(random(), 1));
                if seed % 2 == 0 {
                    frame.fill(0, 20, &mut random);
                }
                frame.end()
            });
            assert!(!found, "{seed}");
        }
        assert!(!verdict(|_| Vec::new()));
        assert!(!verdict(|index| vec![0xff; index as usize]));
        assert!(!verdict(|index| vec![0; index as usize]));
    }

    #[test]
    fn real_low_complexity_aac_is_not_taken_for_it() {
        for file in [
            &include_bytes!("../../../../ingest/tests/fixtures/tone-44100-1.flv")[..],
            include_bytes!("../../../../ingest/tests/fixtures/tone-48000-2.flv"),
            include_bytes!("../../../../ingest/tests/fixtures/tone-32000-2.flv"),
        ] {
            let frames: Vec<Bytes> = Tags::parse(Bytes::from_static(file))
                .unwrap()
                .filter_map(|tag| match AudioTag::parse(tag.body) {
                    Ok(AudioTag::Aac(frame)) => Some(frame),
                    _ => None,
                })
                .collect();
            assert!(frames.len() > 40);
            assert!(!verdict(|index| frames[index as usize % frames.len()].to_vec()));
        }
    }
}
