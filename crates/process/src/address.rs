//! Addresses: which network they belong to, how far they reach, and whose a request is behind a proxy.
mod proxy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;

pub use self::proxy::{Client, TrustedProxies};

/// Request extension: the scheme by which the client reached this port. Absent means `http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme(pub &'static str);

/// The same address, an IPv4-mapped one as IPv4: a port that takes both families sees IPv4 clients by mapped addresses.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// What one household or host has: an IPv4 address, or the whole /64 that an IPv6 host chooses its addresses from.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Loopback, link-local, the private ranges of RFC 1918 and RFC 4193, and what is kept for documents (RFC 5737, RFC 3849)
/// and so is routed nowhere. An IPv4-mapped address is what it maps.
///
/// RFC 6598's shared range (100.64.0.0/10) is not private: behind a provider's NAT it holds the provider's other
/// customers, who are strangers. Nor is RFC 2544's for benchmarks (198.18.0.0/15): proxies give it to their tunnels, and what
/// comes out of one may come from anywhere.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_documentation(),
        IpAddr::V6(v6) => {
            let is_documentation = matches!(v6.segments(), [0x2001, 0xdb8, ..]);
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || is_documentation
        }
    }
}

/// The public address of a server that listens on `ip`, if it has one. Behind a 1:1 NAT it has none that it knows of.
pub fn public(ip: IpAddr) -> Option<IpAddr> {
    // The address of a tunnel says nothing of who is near, but nobody reaches this machine by it either.
    let is_public = |ip: &IpAddr| !is_private(*ip) && !is_benchmark(*ip);
    if !ip.is_unspecified() {
        return Some(ip).filter(is_public);
    }
    // Every host with IPv6 has a public address, also one in a living room. So it is IPv4 that tells a server of a local
    // network from one of the internet, and IPv6 only where there is nothing else.
    let v6 = || if ip.is_ipv6() { outgoing(Ipv6Addr::UNSPECIFIED.into()) } else { None };
    outgoing(Ipv4Addr::UNSPECIFIED.into()).or_else(v6).filter(is_public)
}

fn is_benchmark(ip: IpAddr) -> bool {
    matches!(ip.to_canonical(), IpAddr::V4(v4) if matches!(v4.octets(), [198, 18 | 19, ..]))
}

/// The address of this machine that the kernel would use towards the network, of the family of `any`.
pub fn outgoing(any: IpAddr) -> Option<IpAddr> {
    // Addresses of documentation (RFC 5737, RFC 3849): no packet is sent, the kernel only says which source it would take.
    let (any, towards): (IpAddr, IpAddr) = match any {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => {
            (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
        }
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((towards, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// The address that people are told for a port: the one bound, or the one that the network knows this machine by. Of a
/// port that takes both families it is the IPv4 address, which is easier to type.
pub fn shown(bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return canonical(bound);
    }
    let v4 = || outgoing(Ipv4Addr::UNSPECIFIED.into()).or_else(|| interface(IpAddr::is_ipv4));
    let v6 = || {
        let v6 = || outgoing(Ipv6Addr::UNSPECIFIED.into()).or_else(|| interface(IpAddr::is_ipv6));
        bound.is_ipv6().then(v6).flatten()
    };
    SocketAddr::new(v4().or_else(v6).unwrap_or(Ipv4Addr::LOCALHOST.into()), bound.port())
}

/// The first address of an interface that others may reach: on a network without a router the kernel names none.
fn interface(is_wanted: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let addresses = getifaddrs().ok()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
    });
    // An IPv6 link-local address means nothing without the interface's name.
    let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    addresses.into_iter().find(|ip| is_wanted(ip) && !ip.is_loopback() && !is_local(ip))
}

/// A listening address as one that can be connected to from this machine. What takes every IPv6 address takes IPv4 too.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = if bound.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { bound.ip() };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_end_where_their_documents_say() {
        let private = [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "192.0.2.2",
            "198.51.100.7",
            "203.0.113.9",
            "2001:db8::5",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:192.168.1.1",
        ];
        let public = [
            "0.0.0.0",
            "172.15.255.255",
            "172.32.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.169.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "8.8.8.8",
            "2a00::1",
            "ff02::1",
            "::ffff:8.8.8.8",
        ];
        for ip in private {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in public {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
        assert_eq!(super::public("8.8.8.8".parse().unwrap()), Some("8.8.8.8".parse().unwrap()));
        for ip in ["192.168.1.1", "198.18.0.1"] {
            assert_eq!(super::public(ip.parse().unwrap()), None, "{ip}");
        }
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_a_64() {
        for (ip, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(network(ip.parse().unwrap()), expected.parse::<IpAddr>().unwrap(), "{ip}");
        }
    }

    #[test]
    fn an_address_that_is_shown_can_be_typed_and_connected_to() {
        for (bound, expected) in [("10.0.0.1:1", "10.0.0.1:1"), ("[fd00::1]:1", "[fd00::1]:1")] {
            assert_eq!(shown(bound.parse().unwrap()), expected.parse().unwrap());
        }
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let listener = std::net::TcpListener::bind(bound).unwrap();
            let shown = shown(listener.local_addr().unwrap());
            assert!(!shown.ip().is_unspecified(), "{shown}");
            std::net::TcpStream::connect(shown).unwrap();
        }
        let mapped = "[::ffff:192.0.2.1]:5".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:5".parse().unwrap());
    }

    #[test]
    fn an_unspecified_address_is_reached_over_loopback() {
        for (bound, expected) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "127.0.0.1:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(bound.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
