//! How often one address may ask for what costs something.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::Method;

/// Requests at once: a school's computers are one address and open the lesson together.
const BURST: f64 = 600.0;
/// Requests a second after that.
const PER_SECOND: f64 = 60.0;
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 16_384;

/// A token bucket for each address.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<HashMap<IpAddr, Bucket>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// Whether this request may pass. Reading costs nothing and always may.
    pub(crate) fn allows(&self, ip: IpAddr, method: &Method) -> bool {
        !matches!(*method, Method::POST | Method::PATCH | Method::DELETE) || self.take(ip, Instant::now())
    }

    fn take(&self, ip: IpAddr, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX {
            // Whoever has been quiet long enough for a full bucket is forgotten; in a flood of addresses, everybody.
            buckets.retain(|_, bucket| bucket.filled(now) < BURST);
            if buckets.len() >= ADDRESSES_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(network(ip)).or_insert(Bucket { tokens: BURST, at: now });
        bucket.tokens = bucket.filled(now);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

impl Bucket {
    fn filled(&self, now: Instant) -> f64 {
        (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

/// An IPv6 host has a whole /64 to choose from.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_counts_and_others_are_not_concerned() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!((0..1000).filter(|_| limiter.take(a, now)).count(), 600);
        assert!(limiter.take(b, now));
        assert_eq!((0..1000).filter(|_| limiter.take(a, now + Duration::from_secs(1))).count(), 60);
    }

    #[test]
    fn the_table_is_bounded() {
        let limiter = Limiter::default();
        let now = Instant::now();
        for n in 0..50_000_u32 {
            limiter.take(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(limiter.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
