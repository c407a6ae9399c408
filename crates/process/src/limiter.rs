//! How often one address may ask for what costs something.
//!
//! By hand and not with `governor`: its keyed store has no bound. It forgets only keys whose allowance is full again, so a
//! flood of addresses either fills the memory or makes everybody's share start anew.
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use lru::LruCache;

use crate::address::network;

/// Networks that are remembered, about 1.5 MB: more than a large school system has. Beyond that the one that was
/// longest quiet is forgotten, and nobody else.
const NETWORKS_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("a literal");

/// A token bucket for each network: an IPv4 address, or an IPv6 /64.
#[derive(Debug)]
pub struct Limiter {
    burst: f64,
    per_second: f64,
    buckets: Mutex<LruCache<IpAddr, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// For `burst` requests at once, and `per_second` after that.
    pub fn new(burst: u32, per_second: u32) -> Self {
        let buckets = Mutex::new(LruCache::new(NETWORKS_MAX));
        Self { burst: f64::from(burst), per_second: f64::from(per_second), buckets }
    }

    /// Whether one more request of this address may pass.
    pub fn take(&self, ip: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Bucket { tokens: self.burst, at: now };
        let bucket = buckets.get_or_insert_mut(network(ip), new);
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(self.burst);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_counts_and_others_are_not_concerned() {
        let limiter = Limiter::new(600, 60);
        let now = Instant::now();
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!((0..1000).filter(|_| limiter.take(a, now)).count(), 600);
        assert!(limiter.take(b, now));
        assert_eq!((0..1000).filter(|_| limiter.take(a, now + Duration::from_secs(1))).count(), 60);
    }

    #[test]
    fn the_table_is_bounded() {
        let limiter = Limiter::new(600, 60);
        let now = Instant::now();
        for n in 0..50_000_u32 {
            limiter.take(IpAddr::from(n.to_be_bytes()), now);
        }
        assert_eq!(limiter.buckets.lock().unwrap().len(), NETWORKS_MAX.get());
    }

    #[test]
    fn a_flood_of_addresses_does_not_give_one_that_keeps_asking_a_new_share() {
        let limiter = Limiter::new(10, 0);
        let now = Instant::now();
        let busy = IpAddr::from([192, 0, 2, 1]);
        let mut passed = 0;
        for n in 0..100_000_u32 {
            limiter.take(IpAddr::from(n.to_be_bytes()), now);
            passed += usize::from(n % 1000 == 0 && limiter.take(busy, now));
        }
        assert_eq!(passed, 10);
    }
}
