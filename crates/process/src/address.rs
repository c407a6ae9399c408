//! What a server knows of where a request comes from.
use std::net::{IpAddr, Ipv6Addr};

/// The scheme by which a request came, as an extension of it: `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme(pub &'static str);

/// The network that an address is counted under: an IPv6 host has a whole /64 to choose from.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}
