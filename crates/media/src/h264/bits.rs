//! Bits of a raw byte sequence payload: H.264, section 7.3.1 and 9.1.

/// A NAL unit's payload is read up to this many bytes: parameter sets and slice headers are far shorter.
const RBSP_MAX: usize = 512;

/// Reads bits, most significant first.
#[derive(Debug)]
pub(super) struct Bits {
    rbsp: Vec<u8>,
    at: usize,
}

impl Bits {
    /// Of a NAL unit without its header; emulation prevention bytes are taken out (section 7.4.1.1).
    pub(super) fn of_payload(payload: &[u8]) -> Self {
        let mut rbsp = Vec::with_capacity(payload.len().min(RBSP_MAX));
        let mut zeros = 0;
        for byte in payload.iter().take(RBSP_MAX) {
            if zeros >= 2 && *byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            rbsp.push(*byte);
        }
        Self { rbsp, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.rbsp.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Unsigned Exp-Golomb, `ue(v)`.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        (1_u32 << zeros).checked_sub(1)?.checked_add(rest)
    }

    /// Signed Exp-Golomb, `se(v)`.
    pub(super) fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let half = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code % 2 == 1 { half } else { -half })
    }
}
