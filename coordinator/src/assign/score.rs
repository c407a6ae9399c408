//! Hashes and weighted rendezvous scores, the same bits on every machine.
//!
//! The score is the one of the crate `hrw-hash`, `weight / -ln(h)`, over its stable hash; the tests hold
//! our order against the crate's. The crate's own sort is not used: it takes `ln` from the platform,
//! breaks ties by the random order of a `HashMap`, and panics when all weights are zero.

use std::hash::Hasher;

/// A stable hash of `parts`. A byte that UTF-8 never contains ends each part, so that ("a", "bc") and
/// ("ab", "c") differ.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut hasher = hrw_hash::DefaultHasher::default();
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write(&[0xff]);
    }
    hasher.finish()
}

/// Mixes the hash of a node with the hash of a key (the finaliser of MurmurHash3, as in `hrw-hash`).
pub(crate) const fn mix(node: u64, key: u64) -> u64 {
    let mut h = node ^ key;
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The weighted score of a node for a key; the highest score wins, ties go to the lower name.
///
/// The result is the bit pattern of a positive finite `f64`, which orders as the number does. Zero weight
/// gives zero, below every other score.
pub(crate) fn score(weight: u64, node: u64, key: u64) -> u64 {
    // The middle of one of 2^52 equal intervals: exact, and never 0 or 1.
    let h = (2.0 * (mix(node, key) >> 12) as f64 + 1.0) / 9_007_199_254_740_992.0;
    (weight as f64 / minus_ln(h)).to_bits()
}

/// `-ln(x)` for normal `x` in (0, 1), to a few units in the last place.
///
/// Only additions, multiplications and divisions, which IEEE 754 and Rust define to the last bit;
/// `f64::ln` may differ between libraries, and then two coordinators could differ.
pub(crate) fn minus_ln(x: f64) -> f64 {
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    const TERMS: [f64; 12] = [
        1.0 / 23.0,
        1.0 / 21.0,
        1.0 / 19.0,
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
        1.0 / 3.0,
        1.0,
    ];
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2))
    let e = x.to_bits().wrapping_sub(SQRT_HALF).cast_signed() >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub((e << 52).cast_unsigned()));
    // ln(m) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.172
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut sum = 0.0;
    for term in TERMS {
        sum = sum * z + term;
    }
    -(e as f64 * std::f64::consts::LN_2 + 2.0 * s * sum)
}
