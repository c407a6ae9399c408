//! How far an address reaches.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address under which the world reaches a server that listens on `ip`, if it does.
pub fn public_address(ip: IpAddr) -> Option<IpAddr> {
    if ip.is_unspecified() { own_public_address(ip) } else { Some(ip).filter(|ip| !is_private(*ip)) }
}

/// An address of this machine that the world can reach, if the kernel would use one.
fn own_public_address(unspecified: IpAddr) -> Option<IpAddr> {
    // Addresses of documentation (RFC 5737, RFC 3849): no packet is sent, the kernel only says which source it would take.
    let v4 = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([192, 0, 2, 1]));
    let v6 = (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
    // A socket on 0.0.0.0 is not reached over IPv6; one on :: is reached over both.
    let families: &[_] = if unspecified.is_ipv4() { &[v4] } else { &[v4, v6] };
    families.iter().find_map(|&(any, towards)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((towards, 9)).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!is_private(ip) && !ip.is_unspecified()).then_some(ip)
    })
}

/// Loopback, link-local, the private ranges of RFC 1918 and RFC 4193, RFC 6598's shared range, and what is kept for
/// documents and benchmarks (RFC 5737, RFC 3849, RFC 2544) and so is routed nowhere.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_benchmark = a == 198 && (b == 18 || b == 19);
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_documentation()
                || is_shared
                || is_benchmark
        }
        IpAddr::V6(v6) => {
            let is_documentation = matches!(v6.segments(), [0x2001, 0xdb8, ..]);
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || is_documentation
        }
    }
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
            "198.19.0.1",
            "2001:db8::5",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:192.168.1.1",
        ];
        let public = [
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.169.0.1",
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
            assert!(public_address(ip.parse().unwrap()).is_some(), "{ip}");
        }
    }
}
