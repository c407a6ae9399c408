//! Names of viewers, streams and shards.
use rand::Rng;

use crate::sdp::Credentials;

/// Shards at most: the first character of a user name fragment says which one a viewer lives on.
pub(crate) const SHARDS_MAX: usize = SHARD_NAMES.len();
const SHARD_NAMES: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Characters of credentials after the shard's: RFC 8839, section 5.4 asks for 24 and 128 bits of randomness.
const UFRAG_RANDOM_LEN: usize = 11;
const PWD_LEN: usize = 24;

/// One viewer of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewerId {
    pub(crate) shard: usize,
    pub(crate) number: u64,
}

/// One stream of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub(crate) u64);

/// The shard that handed out this user name fragment.
pub(crate) fn shard_of(ufrag: &str) -> Option<usize> {
    let name = ufrag.as_bytes().first()?;
    SHARD_NAMES.iter().position(|candidate| candidate == name)
}

/// New credentials for a viewer of a shard.
pub(crate) fn credentials(shard: usize) -> Credentials {
    let mut rng = rand::rng();
    let mut random = |len: usize| -> String {
        (0..len).map(|_| char::from(SHARD_NAMES[rng.random_range(0..SHARD_NAMES.len())])).collect()
    };
    let name = char::from(SHARD_NAMES[shard % SHARDS_MAX]);
    Credentials { ufrag: format!("{name}{}", random(UFRAG_RANDOM_LEN)), pwd: random(PWD_LEN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_name_their_shard() {
        for shard in [0, 1, 35, SHARDS_MAX - 1] {
            assert_eq!(shard_of(&credentials(shard).ufrag), Some(shard));
        }
        assert_eq!(shard_of(""), None);
        assert_eq!(shard_of("-abc"), None);
    }
}
