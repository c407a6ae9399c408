use super::super::score::{hash, minus_ln, mix, score};
use crate::simulate::Random;
use hrw_hash::{HrwNode, HrwNodes};
use proptest::prelude::*;
use std::hash::{Hash, Hasher};

/// A node as the crate hrw-hash wants it, hashed as ours are.
#[derive(PartialEq, Eq)]
struct Weighted(String, usize);

impl Hash for Weighted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
        state.write(&[0xff]);
    }
}

impl HrwNode for Weighted {
    fn capacity(&self) -> usize {
        self.1
    }
}

struct Key(String);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
        state.write(&[0xff]);
    }
}

proptest! {
    /// No stream has the name of a node here: the mix of equal hashes is 0, which hrw-hash scores 0 and we
    /// score least but above 0.
    #[test]
    fn the_order_is_that_of_hrw_hash(
        nodes in prop::collection::hash_map("[a-z0-9.-]{1,20}", 1usize..1_000_000, 1..60),
        stream in "/[a-z0-9/]{0,30}",
    ) {
        let theirs = HrwNodes::new(nodes.iter().map(|(name, weight)| Weighted(name.clone(), *weight)));
        let key = hash(&[&stream]);
        let ours = |node: &Weighted| f64::from_bits(score(node.1 as u64, hash(&[&node.0]), key));
        let scores: Vec<f64> = theirs.sorted(&Key(stream)).map(ours).collect();
        prop_assert_eq!(scores.len(), nodes.len());
        prop_assert!(scores.is_sorted_by(|a, b| *a >= *b * (1.0 - 1e-9)), "{:?}", scores);
    }

    #[test]
    fn more_weight_never_lowers_a_score(weight: u64, more: u64, node: u64, key: u64) {
        let (less, more) = (weight.min(more), weight.max(more));
        prop_assert!(score(less, node, key) <= score(more, node, key));
    }
}

#[test]
fn our_logarithm_is_that_of_the_library() {
    let mut random = Random(1);
    for _ in 0..200_000 {
        let near_one = 1.0 - (random.draw() >> 12) as f64 * 2f64.powf(-52.0 - random.below(50) as f64);
        let anywhere = (1.0 + (random.draw() >> 12) as f64) / 2f64.powi(53);
        for x in [near_one, anywhere].into_iter().filter(|x| *x > 0.0 && *x < 1.0) {
            let (ours, theirs) = (minus_ln(x), -x.ln());
            assert!((ours - theirs).abs() <= theirs * 1e-15, "{x}: {ours} and {theirs}");
        }
    }
}

#[test]
fn our_logarithm_has_the_same_bits_everywhere() {
    for (x, bits) in [
        (f64::EPSILON / 2.0, 0x4042_5e4f_7b27_37fa_u64),
        (0.1, 0x4002_6bb1_bbb5_5515),
        (0.5, 0x3fe6_2e42_fefa_39ef),
        (std::f64::consts::FRAC_1_SQRT_2, 0x3fd6_2e42_fefa_39ee),
        (0.75, 0x3fd2_6962_1134_db92),
        (0.999, 0x3f50_6467_0d97_9b73),
        (1.0 - f64::EPSILON / 2.0, 0x3ca0_0000_0000_0000),
    ] {
        assert_eq!(
            minus_ln(x).to_bits(),
            bits,
            "{x}: {:#x}, -ln {:#x}",
            minus_ln(x).to_bits(),
            (-x.ln()).to_bits()
        );
    }
}

#[test]
fn hashes_and_scores_have_the_same_bits_everywhere() {
    assert_eq!(hash(&[]), 0x0338_dc4b_e2ce_cdae);
    assert_eq!(hash(&[""]), 0xbcd3_e029_0ab5_497e);
    assert_eq!(hash(&["node-1"]), 0xdc86_6b8a_6c77_a313);
    let long = hash(&["class-1", "a viewer with a long name: 4d8f0c52-77aa-4b0e-8d3c"]);
    assert_eq!(long, 0x9cf3_67b9_9a0a_8e09);
    assert_eq!(mix(1, 2), 0x0b51_81c5_09f8_d8ce);
    let score = score(10_000_000_000, hash(&["node-1"]), hash(&["class-1"]));
    assert_eq!(score, 0x41fb_a6d8_2c05_e679, "{}", f64::from_bits(score));
}

#[test]
fn scores_of_extreme_hashes_are_positive_and_finite() {
    // mix() is a bijection: these are its values that give the least and the greatest hash.
    for (node, wanted) in
        [(0u64, 0u64), (unmix(u64::MAX), u64::MAX), (unmix(u64::MAX - 1000), u64::MAX - 1000)]
    {
        assert_eq!(mix(node, 0), wanted);
        for weight in [1, 1_000_000_000, u64::MAX] {
            let score = f64::from_bits(score(weight, node, 0));
            assert!(score.is_finite() && score > 0.0, "{wanted:#x} {weight} {score}");
        }
        assert_eq!(score(0, node, 0), 0);
    }
}

fn unmix(mut h: u64) -> u64 {
    let inverse = |odd: u64| (0..6).fold(odd, |x, _| x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x))));
    h ^= h >> 33;
    h = h.wrapping_mul(inverse(0xc4ce_b9fe_1a85_ec53));
    h ^= h >> 33;
    h = h.wrapping_mul(inverse(0xff51_afd7_ed55_8ccd));
    h ^ (h >> 33)
}

#[test]
fn parts_of_a_key_are_kept_apart() {
    let keys =
        [hash(&["ab", "c"]), hash(&["a", "bc"]), hash(&["abc"]), hash(&["abc", ""]), hash(&["", "abc"])];
    for (n, key) in keys.iter().enumerate() {
        assert!(!keys[..n].contains(key));
    }
}
